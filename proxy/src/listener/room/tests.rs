use std::future::pending;

use super::*;

/// A guest that stays until it is asked to leave.
fn guest(room: &Arc<Room>) -> (Arc<Presence>, tokio::task::JoinHandle<()>) {
    let (place, presence) = room.enter(Some(room.try_leave().unwrap()));
    let id = place.guest();
    let task = tokio::spawn(async move {
        let _place = place;
        pending::<()>().await;
    });
    room.seated(id, task.abort_handle());
    (presence, task)
}

#[tokio::test]
async fn whoever_was_quiet_for_longest_makes_room_and_who_has_something_to_do_stays() {
    let room = Arc::new(Room::new(3));
    let (first, asking) = guest(&room);
    let busy = first.busy();
    let (_second, quiet) = guest(&room);
    let (third, quiet_later) = guest(&room);
    third.quiet_since.store(500, Ordering::Relaxed);
    assert!(room.try_leave().is_none());
    room.make_room(Instant::now() + QUIET);
    assert!(quiet.await.unwrap_err().is_cancelled());
    let leave = room.leave().await;
    assert!(!asking.is_finished() && !quiet_later.is_finished());
    drop((leave, busy));
    assert_eq!(room.guests.lock().present.len(), 2);
}

#[tokio::test]
async fn nobody_leaves_who_was_quiet_for_a_moment_only() {
    let room = Arc::new(Room::new(1));
    let (_presence, task) = guest(&room);
    room.make_room(Instant::now());
    tokio::task::yield_now().await;
    assert!(!task.is_finished());
    assert!(room.try_leave().is_none());
}

#[tokio::test]
async fn of_many_places_several_are_freed_at_once_but_not_in_every_breath() {
    let room = Arc::new(Room::new(SHARE * 3));
    let guests: Vec<_> = (0..SHARE * 3).map(|_| guest(&room)).collect();
    let later = Instant::now() + QUIET;
    room.make_room(later);
    room.make_room(later);
    assert_eq!(room.guests.lock().present.len(), guests.len() - 3);
}

#[tokio::test]
async fn a_place_that_is_given_back_is_forgotten() {
    let room = Arc::new(Room::new(1));
    let (place, _) = room.enter(room.try_leave());
    let guest = place.guest();
    drop(place);
    // Its task is told of after its end: nothing is kept of it.
    room.seated(guest, tokio::spawn(async {}).abort_handle());
    assert_eq!(room.guests.lock().present.len(), 0);
    assert!(room.try_leave().is_some());
}
