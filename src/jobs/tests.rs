use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::base::Shutdown;
use crate::store::{Store, StoreError};
use crate::testing::{TestClock, TestRandom, memory_store};

const MINUTE: Duration = Duration::from_mins(1);

/// Says what it is told to, and remembers what it was given.
struct Told {
    outcome: Mutex<JobOutcome>,
    seen: Mutex<Vec<Vec<u8>>>,
}

impl Job for Told {
    fn run<'a>(&'a self, payload: &'a [u8]) -> BoxFuture<'a, JobOutcome> {
        lock(&self.seen).push(payload.to_vec());
        let outcome = lock(&self.outcome).clone();
        Box::pin(async move {
            assert_ne!(outcome, JobOutcome::Failed("panic".to_owned()), "on purpose");
            outcome
        })
    }
}

struct Rig {
    store: Store,
    clock: Arc<TestClock>,
    jobs: Jobs,
    job: Arc<Told>,
    metrics: Metrics,
}

impl Rig {
    fn new(outcome: JobOutcome) -> Self {
        Self::on(memory_store(), Arc::default(), outcome)
    }

    /// A process that starts on what `store` holds.
    fn on(store: Store, clock: Arc<TestClock>, outcome: JobOutcome) -> Self {
        let metrics = Metrics::new();
        let random = Arc::new(TestRandom::new(1));
        let supervisor = Supervisor::new(Shutdown::new());
        let jobs = Jobs::new(store.clone(), Arc::clone(&clock) as Arc<dyn Clock>, random, supervisor, &metrics);
        let job = Arc::new(Told { outcome: Mutex::new(outcome), seen: Mutex::default() });
        jobs.register("test", Arc::clone(&job) as Arc<dyn Job>);
        Self { store, clock, jobs, job, metrics }
    }

    async fn enqueue(&self, payload: &'static [u8], after: Duration, dedupe: Option<&'static str>) -> bool {
        let (jobs, at) = (self.jobs.clone(), self.clock.now().after(after));
        self.store.write(move |tx| jobs.enqueue(tx, "test", payload, at, dedupe)).await.unwrap()
    }

    async fn run_due(&self) -> usize {
        self.jobs.run_due().await.unwrap()
    }

    fn seen(&self) -> usize {
        lock(&self.job.seen).len()
    }
}

#[tokio::test]
async fn a_job_runs_once_when_it_is_due() {
    let rig = Rig::new(JobOutcome::Done);
    rig.enqueue(b"p", MINUTE, None).await;
    assert_eq!(rig.run_due().await, 0);
    rig.clock.advance(MINUTE);
    assert_eq!((rig.run_due().await, rig.run_due().await), (1, 0));
    assert_eq!(*lock(&rig.job.seen), [b"p"]);
    assert!(rig.metrics.exposition().contains(r#"mainstay_jobs_runs_total{file="memory",outcome="done"} 1"#));
}

#[tokio::test]
async fn a_job_of_a_failed_transaction_never_was() {
    let rig = Rig::new(JobOutcome::Done);
    let (jobs, at) = (rig.jobs.clone(), rig.clock.now());
    let fail = move |tx: &mut dyn WriteTx| -> Result<(), JobsError> {
        jobs.enqueue(tx, "test", b"", at, None)?;
        Err(StoreError::Closed { file: "on purpose" }.into())
    };
    assert!(rig.store.write(fail).await.is_err());
    assert_eq!(rig.run_due().await, 0);
}

#[tokio::test]
async fn a_job_that_asks_for_it_runs_again_after_growing_waits() {
    let rig = Rig::new(JobOutcome::Retry("not yet".to_owned()));
    rig.enqueue(b"", Duration::ZERO, None).await;
    assert_eq!((rig.run_due().await, rig.run_due().await), (1, 0));
    rig.clock.advance(Duration::from_secs(5));
    assert_eq!((rig.run_due().await, rig.run_due().await), (1, 0));
    rig.clock.advance(Duration::from_secs(4));
    assert_eq!(rig.run_due().await, 0);
    rig.clock.advance(Duration::from_secs(6));
    *lock(&rig.job.outcome) = JobOutcome::Done;
    assert_eq!(rig.run_due().await, 1);
    rig.clock.advance(MINUTE * 120);
    assert_eq!((rig.run_due().await, rig.seen()), (0, 3));
}

#[tokio::test]
async fn a_job_that_never_succeeds_becomes_a_dead_letter() {
    let rig = Rig::new(JobOutcome::Retry("no such host".to_owned()));
    rig.enqueue(b"p", Duration::ZERO, None).await;
    for _ in 0..ATTEMPTS_MAX {
        assert_eq!(rig.run_due().await, 1);
        rig.clock.advance(MINUTE * 60);
    }
    assert_eq!(rig.run_due().await, 0);
    let letters = rig.jobs.dead_letters(10).await.unwrap();
    assert_eq!((letters.len(), letters[0].attempts, letters[0].reason.as_str()), (1, ATTEMPTS_MAX, "no such host"));
    assert_eq!(letters[0].payload, b"p");
}

#[tokio::test]
async fn a_job_that_failed_for_good_is_not_tried_again() {
    let rig = Rig::new(JobOutcome::Failed("no such bucket".to_owned()));
    rig.enqueue(b"", Duration::ZERO, None).await;
    rig.run_due().await;
    rig.clock.advance(MINUTE * 60);
    assert_eq!((rig.run_due().await, rig.jobs.dead_letters(10).await.unwrap().len()), (0, 1));
}

#[tokio::test]
async fn only_the_newest_dead_letters_are_kept() {
    let rig = Rig::new(JobOutcome::Failed("no".to_owned()));
    let (jobs, at) = (rig.jobs.clone(), rig.clock.now());
    let many = move |tx: &mut dyn WriteTx| {
        (0..1_005_u32).try_for_each(|n| jobs.enqueue(tx, "test", &n.to_be_bytes(), at, None).map(drop))
    };
    rig.store.write::<_, JobsError>(many).await.unwrap();
    rig.run_due().await;
    let letters = rig.jobs.dead_letters(2_000).await.unwrap();
    assert_eq!(letters.len(), 1_000);
    assert_eq!(letters[0].payload, 1_004_u32.to_be_bytes());
}

#[tokio::test]
async fn a_panicking_job_counts_as_one_to_run_again() {
    let rig = Rig::new(JobOutcome::Failed("panic".to_owned()));
    rig.enqueue(b"", Duration::ZERO, None).await;
    assert_eq!(rig.run_due().await, 1);
    *lock(&rig.job.outcome) = JobOutcome::Done;
    rig.clock.advance(MINUTE);
    assert_eq!((rig.run_due().await, rig.seen()), (1, 2));
}

#[tokio::test]
async fn a_second_job_with_the_same_key_is_put_in_only_once_the_first_runs() {
    let rig = Rig::new(JobOutcome::Done);
    assert!(rig.enqueue(b"1", Duration::ZERO, Some("k")).await);
    assert!(!rig.enqueue(b"2", Duration::ZERO, Some("k")).await);
    assert!(rig.enqueue(b"3", Duration::ZERO, Some("other")).await);
    let claimed = rig.jobs.claim(1).await.unwrap().remove(0);
    assert!(rig.enqueue(b"4", Duration::ZERO, Some("k")).await);
    rig.jobs.run(claimed).await;
    rig.run_due().await;
    assert_eq!(*lock(&rig.job.seen), [b"1", b"3", b"4"]);
}

#[tokio::test]
async fn a_retry_gives_way_to_the_same_work_asked_for_meanwhile() {
    let rig = Rig::new(JobOutcome::Retry("not yet".to_owned()));
    rig.enqueue(b"1", Duration::ZERO, Some("k")).await;
    let claimed = rig.jobs.claim(1).await.unwrap().remove(0);
    rig.enqueue(b"2", MINUTE, Some("k")).await;
    rig.jobs.run(claimed).await;
    *lock(&rig.job.outcome) = JobOutcome::Done;
    rig.clock.advance(MINUTE * 60);
    assert_eq!(rig.run_due().await, 1);
    assert_eq!(*lock(&rig.job.seen), [b"1", b"2"]);
}

#[tokio::test]
async fn a_job_begun_by_a_dead_process_runs_again_at_the_next_start() {
    let rig = Rig::new(JobOutcome::Done);
    rig.enqueue(b"", Duration::ZERO, None).await;
    assert_eq!(rig.jobs.claim(1).await.unwrap().len(), 1);
    let next = Rig::on(rig.store.clone(), Arc::clone(&rig.clock), JobOutcome::Done);
    assert_eq!(next.run_due().await, 0);
    next.jobs.recover().await.unwrap();
    assert_eq!(next.run_due().await, 1);
}

#[tokio::test]
async fn a_lease_ends_by_itself_and_a_running_job_keeps_its_own() {
    let rig = Rig::new(JobOutcome::Done);
    rig.enqueue(b"", Duration::ZERO, None).await;
    rig.jobs.claim(1).await.unwrap();
    let other = Rig::on(rig.store.clone(), Arc::clone(&rig.clock), JobOutcome::Done);
    rig.clock.advance(MINUTE * 16);
    assert_eq!(rig.run_due().await, 0);
    assert_eq!(other.run_due().await, 0);
    rig.clock.advance(MINUTE * 16);
    assert_eq!(other.run_due().await, 1);
}

#[tokio::test]
async fn a_job_that_kills_every_process_is_given_up() {
    let rig = Rig::new(JobOutcome::Done);
    rig.enqueue(b"", Duration::ZERO, None).await;
    for _ in 0..ATTEMPTS_MAX {
        let process = Rig::on(rig.store.clone(), Arc::clone(&rig.clock), JobOutcome::Done);
        process.jobs.recover().await.unwrap();
        assert_eq!(process.jobs.claim(1).await.unwrap().len(), 1);
    }
    rig.jobs.recover().await.unwrap();
    assert_eq!((rig.run_due().await, rig.jobs.dead_letters(10).await.unwrap().len()), (0, 1));
}

#[tokio::test]
async fn a_scheduled_job_runs_once_per_span_however_often_the_server_starts() {
    let rig = Rig::new(JobOutcome::Done);
    rig.jobs.every("test", Span::hours(1));
    assert_eq!((rig.run_due().await, rig.run_due().await), (1, 0));
    rig.clock.advance(MINUTE * 30);
    let again = Rig::on(rig.store.clone(), Arc::clone(&rig.clock), JobOutcome::Done);
    again.jobs.every("test", Span::hours(1));
    assert_eq!(again.run_due().await, 0);
    rig.clock.advance(MINUTE * 30);
    assert_eq!((again.run_due().await, again.run_due().await), (1, 0));
    again.clock.jump_to(Timestamp(0));
    let set_back = Rig::on(rig.store.clone(), Arc::clone(&rig.clock), JobOutcome::Done);
    set_back.jobs.every("test", Span::hours(1));
    assert_eq!((set_back.run_due().await, set_back.run_due().await), (1, 0));
}

#[tokio::test]
async fn jobs_of_unknown_kinds_wait_for_a_program_that_knows_them() {
    let rig = Rig::new(JobOutcome::Done);
    let (jobs, at) = (rig.jobs.clone(), rig.clock.now());
    rig.store.write(move |tx| jobs.enqueue(tx, "future", b"", at, None)).await.unwrap();
    assert_eq!(rig.run_due().await, 0);
    rig.jobs.register("future", Arc::clone(&rig.job) as Arc<dyn Job>);
    rig.clock.advance(MINUTE * 60);
    assert_eq!(rig.run_due().await, 1);
}

#[tokio::test]
async fn payloads_and_names_have_limits() {
    let rig = Rig::new(JobOutcome::Done);
    let (jobs, at) = (rig.jobs.clone(), rig.clock.now());
    let large = move |tx: &mut dyn WriteTx| jobs.enqueue(tx, "test", &vec![0; PAYLOAD_MAX + 1], at, None);
    assert!(matches!(rig.store.write(large).await, Err(JobsError::PayloadTooLarge { .. })));
    for name in ["", "a\0b", "x".repeat(513).as_str()] {
        let (jobs, name) = (rig.jobs.clone(), name.to_owned());
        let named = move |tx: &mut dyn WriteTx| jobs.enqueue(tx, &name, b"", at, None);
        assert!(matches!(rig.store.write(named).await, Err(JobsError::Name { .. })));
    }
}

#[tokio::test]
async fn a_started_loop_runs_what_is_enqueued_and_ends_with_the_server() {
    struct Signal(Notify, AtomicU32);
    impl Job for Signal {
        fn run<'a>(&'a self, _payload: &'a [u8]) -> BoxFuture<'a, JobOutcome> {
            self.1.fetch_add(1, Ordering::SeqCst);
            self.0.notify_one();
            Box::pin(async { JobOutcome::Done })
        }
    }
    let rig = Rig::new(JobOutcome::Done);
    let signal = Arc::new(Signal(Notify::new(), AtomicU32::new(0)));
    rig.jobs.register("test", Arc::clone(&signal) as Arc<dyn Job>);
    rig.jobs.start();
    rig.enqueue(b"", Duration::ZERO, None).await;
    rig.jobs.wake();
    signal.0.notified().await;
    rig.jobs.0.supervisor.shutdown().drain();
    assert!(rig.jobs.0.supervisor.tasks_ended(Duration::from_secs(5)).await);
    assert_eq!(signal.1.load(Ordering::SeqCst), 1);
}
