//! Tests of the team: every part once, whoever comes; nobody waits for a thread that has not come.

use super::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;

fn counts(count: usize) -> Vec<AtomicUsize> {
    (0..count).map(|_| AtomicUsize::new(0)).collect()
}

fn assert_each_is(counts: &[AtomicUsize], expected: usize) {
    let counts: Vec<usize> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    assert!(counts.iter().all(|&count| count == expected), "{counts:?}");
}

/// A team whose workers come even where the machine has a single processor.
fn team_of(threads: usize) -> ThreadTeam {
    let team = ThreadTeam::new(threads).unwrap();
    team.shared.helpers.assume_processors(threads);
    team
}

#[test]
fn every_part_runs_once() {
    for threads in [1, 2, 3, 7] {
        let team = team_of(threads);
        for parts in [0, 1, 2, 5, 64] {
            let counts = counts(parts);
            for round in 1..=50 {
                team.run(parts, &|worker, part| {
                    assert!(worker < threads);
                    counts[part].fetch_add(1, Ordering::Relaxed);
                });
                assert_each_is(&counts, round);
            }
        }
    }
}

#[test]
fn workers_that_fell_asleep_wake_up_again() {
    let team = team_of(3);
    for _ in 0..5 {
        while team.shared.idle.asleep() < 2 {
            std::thread::yield_now();
        }
        // Ends only if three threads are in it at once.
        let all_are_here = Barrier::new(3);
        team.run(3, &|_, _| {
            all_are_here.wait();
        });
    }
}

#[test]
fn a_worker_that_is_held_up_does_not_stop_the_other_parts() {
    let team = team_of(2);
    let done = AtomicUsize::new(0);
    let (is_held, release) = (AtomicBool::new(false), AtomicBool::new(false));
    let wait_for = |flag: &AtomicBool| {
        while !flag.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            team.run(64, &|worker, _| {
                if worker == 1 {
                    is_held.store(true, Ordering::SeqCst);
                    wait_for(&release);
                } else {
                    wait_for(&is_held);
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        });
        while done.load(Ordering::SeqCst) < 63 {
            std::thread::yield_now();
        }
        // Another caller is not held up either.
        team.run(8, &|_, _| {
            done.fetch_add(1, Ordering::SeqCst);
        });
        let before_release = done.load(Ordering::SeqCst);
        release.store(true, Ordering::SeqCst);
        assert_eq!(before_release, 63 + 8);
    });
    assert_eq!(done.into_inner(), 64 + 8);
}

#[test]
fn a_caller_does_not_wait_for_a_worker_that_has_not_entered() {
    let team = team_of(2);
    let (is_there, entered, release) = (AtomicBool::new(false), Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The only worker is busy with the first caller's part until the end.
            team.run(2, &|worker, _| {
                if worker == 1 {
                    is_there.store(true, Ordering::SeqCst);
                    entered.wait();
                    release.wait();
                } else {
                    while !is_there.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                }
            });
        });
        entered.wait();
        let counts = counts(10);
        team.run(10, &|worker, part| {
            assert_eq!(worker, 0);
            counts[part].fetch_add(1, Ordering::Relaxed);
        });
        assert_each_is(&counts, 1);
        release.wait();
    });
}

#[test]
fn a_panic_reaches_the_caller_after_all_parts_and_the_team_goes_on() {
    let team = team_of(2);
    for guilty in [0, 1, 7] {
        let counts = counts(8);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            team.run(8, &|_, part| {
                counts[part].fetch_add(1, Ordering::Relaxed);
                assert_ne!(part, guilty);
            });
        }));
        assert!(outcome.is_err());
        assert_each_is(&counts, 1);
    }
    let counts = counts(8);
    team.run(8, &|_, part| {
        counts[part].fetch_add(1, Ordering::Relaxed);
    });
    assert_each_is(&counts, 1);
}

#[test]
fn a_panic_of_a_caller_alone_gives_its_place_back() {
    let team = ThreadTeam::new(2).unwrap();
    team.shared.helpers.assume_processors(1);
    for _ in 0..2 * PLACES {
        let outcome = catch_unwind(AssertUnwindSafe(|| team.run(2, &|_, part| assert_ne!(part, 0))));
        assert!(outcome.is_err());
    }
    assert!(team.shared.places.iter().all(|place| !place.activity().0));
}

#[test]
fn a_run_within_a_run_finishes() {
    let team = team_of(2);
    let counts = counts(3 * 5);
    for _ in 0..100 {
        team.run(3, &|_, outer| {
            team.run(5, &|worker, inner| {
                assert_eq!(worker, 0);
                counts[outer * 5 + inner].fetch_add(1, Ordering::Relaxed);
            });
        });
    }
    assert_each_is(&counts, 100);
}

#[test]
fn runs_of_many_callers_at_once_on_too_few_processors() {
    let (team, rounds) = (team_of(5), if cfg!(miri) { 5 } else { 500 });
    std::thread::scope(|scope| {
        // More callers than places.
        for caller in 0..PLACES + 4 {
            let team = &team;
            scope.spawn(move || {
                for round in 0..rounds {
                    let parts = 1 + (caller + round) % 9;
                    let counts = counts(parts);
                    team.run(parts, &|_, part| {
                        counts[part].fetch_add(1, Ordering::Relaxed);
                    });
                    assert_each_is(&counts, 1);
                }
            });
        }
    });
}

#[test]
fn no_more_threads_compute_than_there_are_processors() {
    let team = ThreadTeam::new(5).unwrap();
    team.shared.helpers.assume_processors(2);
    let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    for _ in 0..200 {
        team.run(16, &|_, _| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::hint::black_box((0..1000).sum::<usize>());
            now.fetch_sub(1, Ordering::SeqCst);
        });
    }
    assert!((1..=2).contains(&most.into_inner()));
}

/// A thread in the background runs parts for ever; the foreground's run has the worker all the same.
#[test]
fn a_background_caller_leaves_the_workers_to_the_foreground() {
    let team = team_of(2);
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            team.in_background(|| {
                while !stop.load(Ordering::SeqCst) {
                    team.run(64, &|_, _| {
                        std::hint::black_box((0..1000).sum::<usize>());
                        done.fetch_add(1, Ordering::SeqCst);
                    });
                }
            });
        });
        while done.load(Ordering::SeqCst) < 1000 {
            std::thread::yield_now();
        }
        for _ in 0..3 {
            // Ends only if the worker comes, though the background always has parts for it.
            let both_are_here = Barrier::new(2);
            team.run(2, &|_, _| {
                both_are_here.wait();
            });
        }
        // The background goes on.
        let before = done.load(Ordering::SeqCst);
        while done.load(Ordering::SeqCst) < before + 200 {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::SeqCst);
    });
}

/// A run of the foreground counts for a moment, so that the gaps between an engine's operations are no invitation.
#[test]
fn a_background_caller_notices_runs_of_the_foreground_that_have_ended() {
    let team = team_of(2);
    std::thread::scope(|scope| {
        let computing = scope.spawn(|| {
            let places = &team.shared.places;
            assert!(!background::foreground_computes(places));
            std::thread::scope(|inner| {
                inner.spawn(|| team.run(4, &|_, _| {}));
            });
            assert!(background::foreground_computes(places));
            team.in_background(|| team.run(4, &|_, _| {}));
            let started = std::time::Instant::now();
            while background::foreground_computes(places) && started.elapsed() < Duration::from_secs(60) {
                std::thread::yield_now();
            }
            started.elapsed() < Duration::from_secs(60)
        });
        assert!(computing.join().unwrap());
    });
}

#[test]
fn every_part_of_the_background_runs_once_beside_a_foreground() {
    let (team, rounds) = (team_of(3), if cfg!(miri) { 3 } else { 100 });
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                team.run(16, &|_, _| {
                    std::hint::black_box((0..100).sum::<usize>());
                });
            }
        });
        team.in_background(|| {
            for _ in 0..rounds {
                let counts = counts(9);
                team.run(9, &|_, part| {
                    counts[part].fetch_add(1, Ordering::Relaxed);
                });
                assert_each_is(&counts, 1);
            }
        });
        stop.store(true, Ordering::SeqCst);
    });
}

#[test]
fn chunks_are_each_visited_once() {
    let team = ThreadTeam::with_options(TeamOptions { threads: 3, pin: true }).unwrap();
    let mut data = vec![0_usize; 103];
    team.for_each_chunk(&mut data, 10, |index, chunk| chunk.iter_mut().for_each(|x| *x += index + 1));
    assert!(data.iter().enumerate().all(|(i, &x)| x == i / 10 + 1));
}
