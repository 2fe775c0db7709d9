//! What `import test_driver` gives.

use hotbed_python::{Error, Interpreter};

use crate::{run, with_python};

#[test]
fn the_interpreter_is_the_one_of_the_build_and_has_the_arguments() {
    with_python(|py| {
        run(
            py,
            "import os, sys\n\
             assert sys.argv == ['test.py', 'an argument'], sys.argv\n\
             assert os.path.realpath(sys.executable) == os.path.realpath(sys.base_prefix + '/bin/python3'), sys.executable\n\
             assert os.__file__.startswith(sys.base_prefix + '/lib'), os.__file__\n",
        );
    });
}

#[test]
fn exceptions_have_the_bases_that_scripts_catch() {
    with_python(|py| {
        run(
            py,
            "import test_driver\n\
             from test_driver.errors import MachineError, RequestedAssertionFailed\n\
             assert test_driver.errors.MachineError is MachineError\n\
             assert MachineError.__bases__ == (Exception,)\n\
             assert RequestedAssertionFailed.__bases__ == (AssertionError,)\n\
             assert MachineError.__module__ == 'test_driver.errors'\n\
             assert str(MachineError('x')) == 'x'\n",
        );
    });
}

#[test]
fn a_qmp_error_has_its_parts_and_its_text() {
    with_python(|py| {
        run(
            py,
            "from test_driver.machine.qmp import QMPAPIError\n\
             e = QMPAPIError('GenericError', 'no such thing', transaction_id='7')\n\
             assert isinstance(e, Exception)\n\
             assert (e.class_name, e.description, e.transaction_id) == ('GenericError', 'no such thing', '7')\n\
             assert str(e) == '<QMP API error related to transaction 7 [GenericError]: no such thing>', str(e)\n",
        );
    });
}

#[test]
fn retry_tries_until_true_and_says_when_it_is_the_last_time() {
    with_python(|py| {
        run(
            py,
            "from datetime import timedelta\n\
             from test_driver.errors import RequestedAssertionFailed\n\
             from test_driver.machine import retry\n\
             tries = []\n\
             retry(lambda last: tries.append(last) or len(tries) == 3, timeout=timedelta(seconds=30))\n\
             assert tries == [False, False, False], tries\n\
             tries = []\n\
             try:\n    retry(lambda last: tries.append(last), timeout_seconds=0.05)\n\
             except RequestedAssertionFailed as e:\n    \
                 assert 'timeout=0.05' in str(e) and str(e).startswith('action timed out after 0.'), e\n\
             else:\n    raise AssertionError('no exception')\n\
             assert tries == [False, True], tries\n\
             for wrong in [dict(timeout=1, timeout_seconds=1), dict(timeout=True), dict(timeout='1')]:\n    \
                 try:\n        retry(lambda last: True, **wrong)\n    \
                 except TypeError:\n        pass\n    \
                 else:\n        raise AssertionError(wrong)\n",
        );
    });
}

#[test]
fn an_exception_of_the_tried_function_comes_out() {
    with_python(|py| {
        run(
            py,
            "from test_driver.machine import retry\n\
             try:\n    retry(lambda last: 1 / 0)\n\
             except ZeroDivisionError:\n    pass\n\
             else:\n    raise AssertionError('no exception')\n",
        );
    });
}

#[test]
fn python_starts_once() {
    with_python(|_| {
        assert!(matches!(Interpreter::start(&[]), Err(Error::StartedTwice)));
    });
}
