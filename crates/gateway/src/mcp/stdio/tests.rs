//! Programs that start, idle and make room, on a clock that the tests turn.

use mcp::message::Payload;

use super::*;

/// Returns a program that does nothing for as long as its input is open.
fn program(shared: bool) -> Program {
    Program {
        id: Arc::from("deaf"),
        command: "sh".to_owned(),
        args: ["-c", "while read -r line; do :; done"]
            .map(str::to_owned)
            .to_vec(),
        env: Vec::new(),
        cwd: None,
        shared,
    }
}

fn start(programs: &Programs, shared: bool) -> Result<Arc<Process>, String> {
    programs.start(&Arc::from("backend"), &program(shared))
}

fn call() -> Message {
    match Payload::parse(br#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#) {
        Ok(Payload::One(message)) => message,
        Ok(Payload::Batch(_)) | Err(_) => panic!("a message"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_program_that_nobody_has_spoken_with_for_long_makes_room() {
    let programs = Programs::default();
    let first = start(&programs, false).expect("started");
    tokio::time::advance(Duration::from_secs(1)).await;
    let busy = start(&programs, false).expect("started");
    let talk = busy.post(&call(), [0; 16]).await.expect("told");
    while programs.lock().processes.len() < MAX_RUNNING {
        start(&programs, false).expect("started");
    }
    tokio::time::advance(SPARED - Duration::from_secs(2)).await;
    let refused = start(&programs, false).err();
    assert_eq!(refused.as_deref(), Some("256 programs run already"));
    tokio::time::advance(Duration::from_secs(2)).await;
    start(&programs, false).expect("there is room for one");
    assert!(first.is_over(), "it was idle for longest");
    assert_eq!(programs.lock().processes.len(), MAX_RUNNING);
    tokio::time::advance(SPARED).await;
    while !busy.is_over() && start(&programs, false).is_ok() {}
    assert!(!busy.is_over(), "it works on something");
    drop(talk);
    programs.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_program_that_works_or_is_listened_to_is_not_idle() {
    let programs = Programs::default();
    let [works, heard, idle] = [(); 3].map(|()| start(&programs, false).expect("started"));
    let talk = works.post(&call(), [0; 16]).await.expect("told");
    let listening = heard.listen();
    tokio::time::advance(IDLE).await;
    programs.prune();
    assert!(!idle.is_over(), "it was spoken with just so long ago");
    tokio::time::advance(Duration::from_secs(1)).await;
    programs.prune();
    assert_eq!(
        [&works, &heard, &idle].map(|process| process.is_over()),
        [false, false, true]
    );
    drop(listening);
    programs.prune();
    assert_eq!([&works, &heard].map(|process| process.is_over()), [false, true]);
    drop(talk);
    programs.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_begin_at_once_start_one_program_that_serves_all() {
    let programs = Programs::default();
    let started: Vec<Arc<Process>> = std::thread::scope(|scope| {
        let runtime = tokio::runtime::Handle::current();
        let starts = [(); 8].map(|()| {
            let (runtime, programs) = (runtime.clone(), &programs);
            scope.spawn(move || {
                let _entered = runtime.enter();
                start(programs, true).expect("started")
            })
        });
        starts.map(|start| start.join().expect("no panic")).into()
    });
    let keys: std::collections::HashSet<&str> = started.iter().map(|process| process.key()).collect();
    assert_eq!((keys.len(), programs.lock().processes.len()), (1, 1));
    programs.end().await;
}
