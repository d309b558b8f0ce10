//! The reward `code`: programs that a model wrote, in their sandbox.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;
use zhenjin_align::rewards::{BuildOptions, RewardExpression, RewardFault, SandboxLimits};

use crate::rewards::{fault, options, scores, task, totals};

#[test]
fn code_passes_its_tests_or_does_not() {
    let fields = json!({"tests": ["assert add(1, 2) == 3", "assert add(-1, 1) == 0"]});
    let good = "Here it is:\n```python\ndef add(a, b):\n    return a + b\n```\nDone.";
    let texts = [
        good,
        "def add(a, b): return a - b",
        "syntax error(",
        // Ending early is no success.
        "import sys\nsys.exit(0)",
        "import os\nos._exit(0)",
    ];
    assert_eq!(totals("code", fields, &texts), [1.0, 0.0, 0.0, 0.0, 0.0]);
    let human_eval = json!({
        "entry_point": "double", "prompt_code": "def double(x):\n",
        "test": "def check(candidate):\n    assert candidate(2) == 4\n"
    });
    assert_eq!(totals("code", human_eval, &["    return 2 * x\n", "    return x\n"]), [1.0, 0.0]);
}

/// A program that ends well if it finds neither a secret nor anything to read.
const SEEKER: &str = "
import gc, os, sys
def is_secret(value):
    return type(value) is bytes and len(value) == 32 and not value.strip(b'0123456789abcdef')
frame, places = sys._getframe(), []
while frame:
    places += [frame.f_locals, frame.f_globals]
    frame = frame.f_back
places += [one for one in gc.get_objects() if type(one) in (dict, list, tuple)]
for place in places:
    assert not any(map(is_secret, list(place.values()) if isinstance(place, dict) else place))
assert sys.stdin.read() == '' and os.read(0, 1) == b'' and not os.path.exists(sys.argv[0])
def add(a, b): return a + b
";

/// The secret that proves that the tests were reached stood in the program's own file: its last line, run by itself, passed.
#[test]
fn code_that_reads_its_own_source_and_prints_the_secret_does_not_pass() {
    let fields = json!({"tests": ["assert add(1, 2) == 3"]});
    let passes = [
        "def add(a, b): return a + b",
        SEEKER,
        // The module is the main one, also for those who look it up.
        "import pickle
class Pair: pass
assert type(pickle.loads(pickle.dumps(Pair()))) is Pair
if __name__ == '__main__':
    def add(a, b): return a + b",
        // What the answer leaves of functions does not matter to what judges it.
        "import builtins, os\ndef add(a, b): return a + b\nbuiltins.exec = builtins.compile = os.write = None",
    ];
    let fails = [
        "import os\nexec(open('answer.py').read().splitlines()[-1])\nos._exit(0)",
        "import sys\nexec(open(sys.argv[0]).read().splitlines()[-1])\nsys.exit(0)",
        "import os\nos._exit(0)",
        "raise SystemExit",
        // It writes where the secret goes: instead of it, and before it.
        "import os
for file in range(1, 32):
    try: os.write(file, b'+passed' + bytes(32))
    except OSError: pass
os._exit(0)",
        "import os
for file in range(1, 32):
    try: os.write(file, b'passed')
    except OSError: pass
def add(a, b): return a + b",
        "import atexit, os\natexit.register(os._exit, 0)\ndef add(a, b): return 0",
        "import builtins, os\nbuiltins.exec = lambda *given: None\ndef add(a, b): return 0",
        "import sys\nsys._getframe(1).f_globals.update(run=lambda *given: None)\ndef add(a, b): return 0",
    ];
    let texts: Vec<&str> = passes.iter().chain(&fails).copied().collect();
    let expected: Vec<f64> = passes.iter().map(|_| 1.0).chain(fails.iter().map(|_| 0.0)).collect();
    assert_eq!(totals("code", fields, &texts), expected);
}

/// Answer and tests were one text, so an answer could make a string of its tests.
#[test]
fn code_that_leaves_a_quote_open_swallows_no_tests() {
    let fields = json!({"tests": ["assert add(1, 2) == 3  # '''"]});
    let texts = ["def add(a, b): return 0\nunused = '''", "def add(a, b): return a + b"];
    assert_eq!(totals("code", fields, &texts), [0.0, 1.0]);
}

#[test]
fn code_cannot_take_more_than_its_limits() {
    let started = Instant::now();
    let fields = json!({"tests": ["pass"]});
    let texts = [
        "while True: pass",
        "x = bytearray(4 << 30)",
        "open('big', 'wb').write(bytes(64 << 20))",
        "files = [open('f%d' % n, 'w') for n in range(1000)]",
    ];
    assert_eq!(totals("code", fields.clone(), &texts), [0.0; 4]);
    let options = BuildOptions {
        sandbox: SandboxLimits { wall: Duration::from_secs(5), ..SandboxLimits::default() },
        ..options()
    };
    let rewards = RewardExpression::parse("code").unwrap().build(&options).unwrap();
    assert_eq!(
        scores(&rewards, &task(fields), &["import time\ntime.sleep(60)"])[0].as_ref().unwrap().total,
        0.0
    );
    assert!(started.elapsed() < Duration::from_secs(300));
}

/// Root's processes were not limited, each had all the memory, that of System V is no process's, and namespaces gave rights.
#[test]
fn code_that_goes_round_its_limits_does_not_pass() {
    let passes = [
        "import subprocess\nassert subprocess.run(['true']).returncode == 0",
        "import time\nkept = bytearray(b'x') * (150 << 20)\ntime.sleep(0.5)",
    ];
    let start = |count: u32, does: &str| {
        format!(
            "import os, time\nfor _ in range({count}):\n    if os.fork() == 0:\n        {does}\n        os._exit(0)\n"
        )
    };
    let fails = [
        start(100, "time.sleep(60)"),
        start(6, "kept = bytearray(b'x') * (100 << 20); time.sleep(60)") + "time.sleep(20)",
        "import ctypes\nassert ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600) >= 0".to_owned(),
        "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0".to_owned(),
    ];
    let sandbox = SandboxLimits { memory_bytes: 256 << 20, ..options().sandbox };
    let rewards =
        RewardExpression::parse("code").unwrap().build(&BuildOptions { sandbox, ..options() }).unwrap();
    let texts: Vec<&str> = passes.into_iter().chain(fails.iter().map(String::as_str)).collect();
    let found = scores(&rewards, &task(json!({"tests": ["pass"]})), &texts);
    let found: Vec<f64> = found.into_iter().map(|score| score.unwrap().total).collect();
    assert_eq!(found, [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
}

/// Whatever was answered passed.
#[test]
fn tests_that_test_nothing_are_the_examples_fault() {
    for (fields, expected) in [
        (json!({"test": ""}), "test"),
        (json!({"tests": [""]}), "tests"),
        (json!({"tests": "# none"}), "tests"),
        (json!({"test": "def check(c):\n    assert c(1) == 1\n"}), "test"),
        (json!({"test": "import math\ndef test_it():\n    assert f(1) == 1", "entry_point": "f"}), "test"),
        (json!({"tests": ["assert ("]}), "tests"),
    ] {
        let found = fault("code", fields.clone());
        let RewardFault::Field { field, problem } = &found else { panic!("{fields}: {found:?}") };
        let says_why = problem.contains("every answer would pass") || problem.contains("never closed");
        assert!(field == expected && says_why, "{fields}: {found:?}");
    }
    let called = json!({"test": "def check(c):\n    assert c() == 1\ncheck(f)"});
    for fields in [called, json!({"test": "", "tests": ["assert f() == 1"]})] {
        assert_eq!(totals("code", fields, &["def f(): return 1", "def f(): return 2"]), [1.0, 0.0]);
    }
}

/// Tests that run through a decorator, a metaclass or a name that the answer defines were called tests of nothing.
#[test]
fn tests_that_run_in_unusual_ways_test_something() {
    let texts = ["def run(f):\n    assert f() is None\n    return f\nanswer = 1", "answer = None"];
    for tests in [
        "@run\ndef test(): pass",
        "both = answer + 1",
        "known = run",
        "def test(value=run(lambda: None)): pass",
        "class Test:\n    assert answer == 1",
    ] {
        assert_eq!(totals("code", json!({"tests": [tests]}), &texts), [1.0, 0.0], "{tests}");
    }
}

/// A program that a model wrote could read and remove what belongs to whoever trained it.
#[test]
fn code_sees_none_of_the_users_files_and_no_network() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("private");
    std::fs::write(&file, "private").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Each must pass.
    let passes = [
        format!("import os\nassert not os.path.exists({:?})", file.display().to_string()),
        "import os\nassert not os.path.exists('/etc/passwd') and not os.path.exists('/old')".to_owned(),
        "import os\nassert os.listdir('/answer') == [] and os.listdir('/tmp') == []".to_owned(),
        "open('/tmp/mine', 'w').write('x')\nassert open('/tmp/mine').read() == 'x'".to_owned(),
    ];
    // And each must fail.
    let fails = [
        "open('/usr/mine', 'w')".to_owned(),
        "import os\nos.mkdir('/usr/lib/mine')".to_owned(),
        "import os\nos.chroot('/usr')".to_owned(),
        "import subprocess\nsubprocess.run(['mount', '-o', 'remount,bind,rw', '/usr'], check=True)"
            .to_owned(),
        "import subprocess\nsubprocess.run(['umount', '/usr'], check=True)".to_owned(),
        format!("import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)"),
    ];
    let texts: Vec<&str> = passes.iter().chain(&fails).map(String::as_str).collect();
    let found = totals("code", json!({"tests": ["pass"]}), &texts);
    let expected: Vec<f64> = passes.iter().map(|_| 1.0).chain(fails.iter().map(|_| 0.0)).collect();
    assert_eq!(found, expected);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "private");
}

#[test]
fn a_sandbox_that_cannot_start_is_a_fault_and_not_a_score() {
    let options = BuildOptions { python: PathBuf::from("/no/such/python"), ..options() };
    let rewards = RewardExpression::parse("code").unwrap().build(&options).unwrap();
    let score = scores(&rewards, &task(json!({"tests": ["pass"]})), &["pass"]).remove(0);
    assert!(matches!(score, Err(RewardFault::Part { .. })), "{score:?}");
}
