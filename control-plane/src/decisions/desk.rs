//! Which proxies can be asked, and which questions they have not answered yet. Waits for nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_policy::decision::DecisionRecord;
use tidegate_xds::decisions::DecisionQuestion;
use tokio::sync::mpsc;
use tonic::Status;

pub(super) type Outbox = mpsc::Sender<Result<DecisionQuestion, Status>>;

/// Who says what.
pub(super) type Answer = (Arc<str>, Vec<DecisionRecord>);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// By the number of their streams.
    proxies: BTreeMap<u64, Proxy>,
    open: BTreeMap<u64, Question>,
    next: u64,
}

#[derive(Debug)]
struct Proxy {
    node: Arc<str>,
    outbox: Outbox,
}

#[derive(Debug)]
struct Question {
    answers: mpsc::Sender<Answer>,
    /// Streams from which an answer is to come.
    asked: BTreeMap<u64, Arc<str>>,
    /// Who will not answer any more.
    lost: Vec<Arc<str>>,
}

impl Desk {
    /// A proxy can be asked from now on. The number of its stream.
    pub(super) fn join(&mut self, node: &str, outbox: Outbox) -> u64 {
        self.next += 1;
        self.proxies.insert(self.next, Proxy { node: node.into(), outbox });
        self.next
    }

    pub(super) fn leave(&mut self, stream: u64) {
        self.proxies.remove(&stream);
        for question in self.open.values_mut() {
            question.lost.extend(question.asked.remove(&stream));
            question.end_if_whole();
        }
    }

    /// Asks everybody. The number of the question, and where answers come; it ends when none is missing.
    pub(super) fn ask(&mut self, id: &str, limit: u32) -> (u64, mpsc::Receiver<Answer>) {
        self.next += 1;
        let number = self.next;
        let (answers, answered) = mpsc::channel(self.proxies.len().max(1));
        let mut question = Question { answers, asked: BTreeMap::new(), lost: Vec::new() };
        for (stream, proxy) in &self.proxies {
            let asked = DecisionQuestion { number, id: id.to_owned(), limit };
            match proxy.outbox.try_send(Ok(asked)) {
                Ok(()) => drop(question.asked.insert(*stream, proxy.node.clone())),
                Err(_) => question.lost.push(proxy.node.clone()),
            }
        }
        question.end_if_whole();
        self.open.insert(number, question);
        (number, answered)
    }

    /// The first answer of a proxy that was asked counts.
    pub(super) fn take(&mut self, stream: u64, number: u64, hops: Vec<DecisionRecord>) {
        let Some(question) = self.open.get_mut(&number) else { return };
        let Some(node) = question.asked.remove(&stream) else { return };
        let named = hops.into_iter().map(|hop| DecisionRecord { node: node.to_string(), ..hop });
        // There is room for one answer of everybody; nobody listens any more if it fails.
        drop(question.answers.try_send((node.clone(), named.collect())));
        question.end_if_whole();
    }

    /// The answers that have not come do not count any more. Whose they are.
    pub(super) fn close(&mut self, number: u64) -> Vec<Arc<str>> {
        let Some(mut question) = self.open.remove(&number) else { return Vec::new() };
        question.lost.extend(question.asked.into_values());
        question.lost
    }
}

impl Question {
    /// Whoever waits for answers is told that there are no more, by the end of the channel.
    fn end_if_whole(&mut self) {
        if self.asked.is_empty() {
            self.answers = mpsc::channel(1).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(path: &str) -> DecisionRecord {
        DecisionRecord {
            path: path.to_owned(),
            node: String::from("somebody else"),
            ..DecisionRecord::default()
        }
    }

    /// All that has come until the end of the channel; `None`: the end has not come.
    fn told(answers: &mut mpsc::Receiver<Answer>) -> (Vec<(String, usize)>, bool) {
        let mut all = Vec::new();
        loop {
            match answers.try_recv() {
                Ok((node, hops)) => {
                    assert!(hops.iter().all(|hop| hop.node == *node), "a proxy speaks for itself");
                    all.push((node.to_string(), hops.len()));
                }
                Err(mpsc::error::TryRecvError::Empty) => return (all, false),
                Err(mpsc::error::TryRecvError::Disconnected) => return (all, true),
            }
        }
    }

    #[test]
    fn everybody_is_asked_and_each_answers_once() {
        let mut desk = Desk::default();
        let ((a, mut a_hears), (b, _b_hears)) = (mpsc::channel(4), mpsc::channel(4));
        let (a, b) = (desk.join("a", a), desk.join("b", b));
        let (number, mut answers) = desk.ask("id", 7);
        let asked = a_hears.try_recv().unwrap().unwrap();
        assert_eq!((asked.number, asked.id.as_str(), asked.limit), (number, "id", 7));
        desk.take(a, number, vec![hop("/1"), hop("/2")]);
        desk.take(a, number, vec![hop("/3")]);
        desk.take(b, number + 1, vec![hop("/4")]);
        assert_eq!(told(&mut answers), (vec![(String::from("a"), 2)], false));
        desk.take(b, number, vec![]);
        assert_eq!(told(&mut answers), (vec![(String::from("b"), 0)], true));
        assert!(desk.close(number).is_empty());
    }

    #[test]
    fn who_leaves_or_does_not_read_or_is_late_is_told_of() {
        let mut desk = Desk::default();
        let (full, _hears) = mpsc::channel(1);
        full.try_send(Ok(DecisionQuestion::default())).unwrap();
        desk.join("full", full);
        let (gone, _hears) = mpsc::channel(1);
        let gone = desk.join("gone", gone);
        let (late, _hears) = mpsc::channel(1);
        let late = desk.join("late", late);
        let (number, mut answers) = desk.ask("id", 7);
        desk.leave(gone);
        assert_eq!(told(&mut answers), (vec![], false));
        let lost: Vec<_> = desk.close(number).iter().map(ToString::to_string).collect();
        assert_eq!(lost, ["full", "gone", "late"]);
        desk.take(late, number, vec![hop("/")]);
        assert_eq!(told(&mut answers), (vec![], true), "what comes too late changes nothing");
    }

    #[test]
    fn with_nobody_to_ask_the_answer_is_there_at_once() {
        let mut desk = Desk::default();
        let (number, mut answers) = desk.ask("id", 7);
        assert_eq!(told(&mut answers), (vec![], true));
        assert!(desk.close(number).is_empty());
    }
}
