use std::fs;
use std::path::Path;

use hotbed_qmp::wire::fuzz_messages;

#[test]
fn every_input_of_the_fuzzers_corpus_is_taken() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/qmp_messages");
    let mut count = 0;
    for entry in fs::read_dir(&corpus).unwrap() {
        let input = fs::read(entry.unwrap().path()).unwrap();
        fuzz_messages(&input);
        count += 1;
    }
    assert!(count >= 10, "only {count} inputs in {}", corpus.display());
}
