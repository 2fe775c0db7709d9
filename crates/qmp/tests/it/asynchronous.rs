//! The front for async programs: what it does by itself. What it shares with the other is tested there.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use hotbed_qmp::Error;
use hotbed_qmp::commands::{GetFd, QueryStatus};
use hotbed_qmp::fake::{Answer, FakeQemu, GREETING, Request};
use hotbed_qmp::state::COMMANDS_MAX;
use hotbed_qmp::tokio::Client;
use serde_json::{Value, json};

use crate::support::{Qemu, SLACK, echo, late, soon};

async fn fake(answer: impl FnMut(&Request) -> Answer + Send + 'static) -> (FakeQemu, Client) {
    let (qemu, stream) = FakeQemu::pair(answer).unwrap();
    let client = Client::from_stream(stream, late()).await.unwrap();
    (qemu, client)
}

async fn echoed(client: &Client, arguments: &Value) -> Value {
    client
        .execute("echo", arguments.clone(), late())
        .await
        .unwrap()["arguments"]
        .clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_get_their_own_answers() {
    let (_qemu, client) = fake(echo).await;
    let tasks = (0..8).map(|task| {
        let client = client.clone();
        tokio::spawn(async move {
            for number in 0..200 {
                let arguments = json!({"task": task, "number": number});
                assert_eq!(echoed(&client, &arguments).await, arguments);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn deadlines_hold_and_waits_can_be_resumed() {
    let (qemu, client) = fake(echo).await;
    let mut pending = client.submit("hold", Value::Null, &[]).unwrap();
    let until = soon();
    assert_eq!(pending.wait(until).await.unwrap(), None);
    assert!(Instant::now() >= until && Instant::now() < until + SLACK);
    assert!(matches!(
        client.execute("hold", Value::Null, soon()).await,
        Err(Error::Timeout { .. })
    ));
    assert_eq!(client.wait_event(0, |_| true, soon()).await.unwrap(), None);
    assert!(!client.wait_closed(soon()).await);
    let request = qemu.wait_requests(1, late()).unwrap().remove(0);
    qemu.answer(&request, json!("at last").into());
    assert_eq!(pending.wait(late()).await.unwrap(), Some(json!("at last")));
    assert!(matches!(
        pending.wait(late()).await,
        Err(Error::Answered { .. })
    ));
}

#[tokio::test]
async fn call_that_is_dropped_lets_its_answer_go() {
    let (qemu, client) = fake(echo).await;
    let call = client.execute("hold", Value::Null, late());
    assert!(
        tokio::time::timeout(Duration::from_millis(20), call)
            .await
            .is_err()
    );
    let request = qemu.wait_requests(1, late()).unwrap().remove(0);
    qemu.answer(&request, json!("too late").into());
    assert_eq!(echoed(&client, &json!({"a": 1})).await, json!({"a": 1}));
}

#[tokio::test]
async fn answers_that_were_given_up_do_not_pile_up() {
    let (_qemu, client) = fake(echo).await;
    for number in 0..=COMMANDS_MAX {
        drop(client.submit("echo", Value::Null, &[]).unwrap());
        assert_eq!(echoed(&client, &json!(number)).await, json!(number));
    }
}

#[tokio::test]
async fn event_wakes_who_waits() {
    let (qemu, client) = fake(echo).await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move {
            client
                .wait_event(0, |event| event.name == "SHUTDOWN", late())
                .await
        }
    });
    tokio::task::yield_now().await;
    qemu.event("STOP", &Value::Null);
    qemu.event("SHUTDOWN", &json!({"guest": true}));
    let event = waiting.await.unwrap().unwrap().unwrap();
    assert_eq!((event.sequence, event.data), (1, json!({"guest": true})));
    assert_eq!(client.events_since(0).len(), 2);
    assert_eq!((client.cursor(), client.events_lost_since(0)), (2, 0));
}

#[tokio::test]
async fn qemu_that_goes_ends_every_wait() {
    let (qemu, client) = fake(echo).await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.execute("hold", Value::Null, late()).await }
    });
    tokio::task::yield_now().await;
    qemu.wait_requests(1, late()).unwrap();
    qemu.close();
    assert!(matches!(waiting.await.unwrap(), Err(Error::Closed { .. })));
    assert!(client.wait_closed(late()).await && client.is_closed());
}

#[tokio::test]
async fn qemu_that_does_not_read_gets_all_later_and_the_end_comes_with_the_last_clone() {
    let (mut ours, stream) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    ours.write_all(GREETING.as_bytes()).unwrap();
    let connecting = tokio::spawn(Client::from_stream(stream, late()));
    let (mut ours, negotiation) = tokio::task::spawn_blocking(move || {
        let mut bytes = [0; 512];
        let count = ours.read(&mut bytes).unwrap();
        (
            ours,
            serde_json::from_slice::<Value>(&bytes[..count]).unwrap(),
        )
    })
    .await
    .unwrap();
    ours.write_all(
        json!({"return": {}, "id": negotiation["id"]})
            .to_string()
            .as_bytes(),
    )
    .unwrap();
    let client = connecting.await.unwrap().unwrap();

    let large = json!({ "text": "x".repeat(8 << 20) });
    assert!(matches!(
        client.execute("large", large.clone(), soon()).await,
        Err(Error::Timeout { .. })
    ));
    let mut small = client.submit("small", Value::Null, &[]).unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(ours);
        let mut command = || {
            let mut line = Vec::new();
            lines.read_until(b'\n', &mut line).unwrap();
            serde_json::from_slice::<Value>(&line).unwrap()
        };
        let commands = [command(), command()];
        (lines, commands)
    });
    let (mut lines, commands) = reading.await.unwrap();
    assert!(
        commands[0]["arguments"] == large,
        "the command is not what was sent"
    );
    assert_eq!(commands[1]["execute"], "small");
    assert_eq!(small.wait(soon()).await.unwrap(), None);

    drop((client, small));
    let end = tokio::task::spawn_blocking(move || lines.read(&mut [0]).unwrap());
    assert_eq!(
        end.await.unwrap(),
        0,
        "the session is open with nobody holding it"
    );
}

#[tokio::test]
async fn file_arrives_with_its_command() {
    let (qemu, client) = fake(|_| json!({}).into()).await;
    let file = tempfile::tempfile().unwrap();
    client
        .call(
            &GetFd {
                fdname: "f",
                file: file.as_fd(),
            },
            late(),
        )
        .await
        .unwrap();
    client
        .execute_with_fds("getfd", json!({"fdname": "g"}), &[file.as_fd()], late())
        .await
        .unwrap();
    assert!(
        qemu.requests()
            .iter()
            .all(|request| request.files.as_slice().len() == 1)
    );
}

#[tokio::test]
async fn real_qemu_answers() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Client::connect(&folder.path().join("monitor"), soon()).await;
    assert!(matches!(missing, Err(Error::Connect { .. })));

    let Some(mut qemu) = Qemu::start(&[]) else {
        return;
    };
    let client = Client::connect(&qemu.socket(), late()).await.unwrap();
    assert_eq!(
        client.call(&QueryStatus {}, late()).await.unwrap().status,
        "running"
    );
    client
        .execute_oob("yank", json!({"instances": []}), late())
        .await
        .unwrap();
    client.execute("quit", Value::Null, late()).await.unwrap();
    assert!(
        client
            .wait_event(0, |event| event.name == "SHUTDOWN", late())
            .await
            .unwrap()
            .is_some()
    );
    assert!(client.wait_closed(late()).await);
    assert!(qemu.child.wait().unwrap().success());
}
