//! What daemon, keepers and guard of one node share: a file that each of them maps, of words that are read and written
//! whole. Keepers enter what they keep and until when; the daemon enters its registration and its lease; the guard enters
//! that it is there, what it had to end, and which registration is over. No locks: nobody can hold up anybody.

mod home;
mod slot;

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use scrap_schema::id::BootId;
use scrap_schema::time::BootTime;
use scrap_schema::unit::Span;

use super::Arrangements;
use crate::processes::Process;

pub(crate) use slot::{Entry, Slot};
pub(super) use slot::{GROUP_MAX, Holder, TAG_MAX};

/// Says what the file is, and in which form. Another form is another number.
const MAGIC: u64 = 0x5343_5241_5047_0001;
/// Grains that one node can run at once.
const SLOTS: usize = 1024;
const HEAD_WORDS: usize = 128;
const SLOT_WORDS: usize = 64;
const WORDS: usize = HEAD_WORDS + SLOTS * SLOT_WORDS;
const BYTES: usize = WORDS * 8;
/// Nodes that are told of the end of a registration.
pub(super) const PEERS_MAX: usize = 9;
const PEER_WORDS: usize = 4;

/// Words of the head.
mod head {
    pub(super) const MAGIC: usize = 0;
    pub(super) const MACHINE: [usize; 2] = [1, 2];
    pub(super) const GUARD_PID: usize = 3;
    pub(super) const GUARD_STARTED: usize = 4;
    pub(super) const BEAT: usize = 5;
    pub(super) const FLAGS: usize = 6;
    pub(super) const ALLOCATIONS: usize = 7;
    pub(super) const DAEMON_PID: usize = 8;
    pub(super) const DAEMON_STARTED: usize = 9;
    pub(super) const BOOT: usize = 10;
    pub(super) const LEASE: usize = 11;
    pub(super) const CLOSED: usize = 12;
    pub(super) const KILLS: usize = 13;
    pub(super) const WHOLE: usize = 14;
    pub(super) const NODE: usize = 15;
    pub(super) const TOKEN: usize = 16;
    pub(super) const DOG_WANTED: usize = 20;
    pub(super) const DOG: usize = 21;
    pub(super) const DOG_MAY_WAIT: usize = 22;
    pub(super) const DOG_WAITS: usize = 23;
    pub(super) const PEERS: usize = 24;
    pub(super) const PEER: usize = 32;
}

/// The board, mapped. Every copy of this value is of the same words.
#[derive(Debug)]
pub struct Board {
    words: &'static [AtomicU64],
    /// Keeps the lock of a guard.
    file: OwnedFd,
    path: PathBuf,
    /// Where its words are.
    real: PathBuf,
}

fn narrow(word: u64) -> usize {
    usize::try_from(word).unwrap_or(0)
}

/// Which boot of the machine this is, as two numbers.
fn machine() -> io::Result<[u64; 2]> {
    let id = crate::processes::boot_id()?;
    let hash = blake3::hash(id.as_bytes());
    let mut words = [0; 2];
    for (word, bytes) in words.iter_mut().zip(hash.as_bytes().chunks_exact(8)) {
        *word = bytes.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
    }
    Ok(words)
}

/// Removes the board of a run directory, wherever its words are.
pub(super) fn remove(run_dir: &Path) -> io::Result<()> {
    home::remove(&Board::path(run_dir))
}

impl Board {
    /// Where the board of a run directory is.
    #[must_use]
    pub fn path(run_dir: &Path) -> PathBuf {
        run_dir.join("guard")
    }

    /// Opens a board that is there. `NotFound`: there is none of this form and of this boot of the machine.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        if file.metadata()?.len() != BYTES as u64 || !home::is_ours(&file)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        let board = Self::map(file, path, std::fs::canonicalize(path)?)?;
        let [one, two] = head::MACHINE;
        if board.get(head::MAGIC) != MAGIC || [board.get(one), board.get(two)] != machine()? {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(board)
    }

    /// Puts an empty board where `path` is. Whoever uses the one before goes on with that.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn make(path: &Path) -> io::Result<Self> {
        let (file, at) = home::create(path)?;
        file.set_len(BYTES as u64)?;
        let board = Self::map(file, path, at.clone())?;
        let [one, two] = machine()?;
        board.set(head::MACHINE[0], one);
        board.set(head::MACHINE[1], two);
        board.set(head::MAGIC, MAGIC);
        home::put(&at, path)?;
        Ok(board)
    }

    #[expect(unsafe_code, reason = "a file that several processes share is mapped")]
    fn map(file: File, path: &Path, real: PathBuf) -> io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        let (rights, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping of `BYTES` bytes, wherever the system likes. It is never unmapped.
        let start = unsafe { mmap(std::ptr::null_mut(), BYTES, rights, flags, &file, 0) }?;
        // SAFETY: the mapping has `WORDS` words, begins at a page, and lives as long as the process. Every bit pattern is a
        // word, and whoever else has the file mapped touches it by atomic words too. Nobody makes the file shorter.
        let words = unsafe { std::slice::from_raw_parts(start.cast::<AtomicU64>(), WORDS) };
        Ok(Self { words, file: file.into(), path: path.to_owned(), real })
    }

    fn word(&self, at: usize) -> Option<&AtomicU64> {
        self.words.get(at)
    }

    fn get(&self, at: usize) -> u64 {
        self.word(at).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    fn set(&self, at: usize, value: u64) {
        if let Some(word) = self.word(at) {
            word.store(value, Ordering::SeqCst);
        }
    }

    fn put(&self, at: usize, bytes: &[u8]) {
        for (index, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.set(at + index, u64::from_le_bytes(word));
        }
    }

    fn take<'a>(&self, at: usize, length: usize, into: &'a mut [u8]) -> &'a [u8] {
        for (index, chunk) in into.chunks_mut(8).enumerate().take(length.div_ceil(8)) {
            for (to, from) in chunk.iter_mut().zip(self.get(at + index).to_le_bytes()) {
                *to = from;
            }
        }
        into.get(..length).unwrap_or_default()
    }

    /// Becomes the guard of this board. `false`: somebody is.
    pub(super) fn lock(&self) -> io::Result<bool> {
        match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a guard has this board.
    pub(super) fn is_guarded(&self) -> io::Result<bool> {
        match flock(&self.file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                flock(&self.file, FlockOperation::Unlock)?;
                Ok(false)
            }
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Clears the words away if another board, or none, is where this one was: nobody would find them any more.
    pub(super) fn clear_away(&self) {
        if self.is_replaced() && self.real != self.path {
            let _ = std::fs::remove_file(&self.real);
        }
    }

    /// Whether another board is where this one was.
    pub(super) fn is_replaced(&self) -> bool {
        let there = rustix::fs::stat(&self.path);
        let mine = rustix::fs::fstat(&self.file);
        match (there, mine) {
            (Ok(there), Ok(mine)) => (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino),
            (Err(_), _) | (_, Err(_)) => true,
        }
    }

    /// The guard says who it is and what it could arrange.
    pub(super) fn guarded_by(&self, me: Process, arrangements: Arrangements) {
        let Arrangements { locked, first, watchdog } = arrangements;
        let flag = |is: bool, bit: u32| u64::from(is) << bit;
        self.set(head::FLAGS, flag(locked, 0) | flag(first, 1) | flag(watchdog, 2));
        self.set(head::GUARD_STARTED, me.started);
        self.set(head::GUARD_PID, me.pid.unsigned_abs().into());
    }

    /// The guard, once it has said so.
    pub(super) fn guard(&self) -> Option<Process> {
        process(self.get(head::GUARD_PID), self.get(head::GUARD_STARTED))
    }

    /// What the guard could arrange.
    #[must_use]
    pub fn arrangements(&self) -> Arrangements {
        let flags = self.get(head::FLAGS);
        let flag = |bit: u32| flags & (1 << bit) != 0;
        Arrangements { locked: flag(0), first: flag(1), watchdog: flag(2) }
    }

    /// The watchdog that the guard is to have, by its mark, and how long it may wait; 0: none.
    pub(super) fn want_dog(&self, mark: u64, within: Span) {
        self.set(head::DOG_MAY_WAIT, within.ms());
        self.set(head::DOG_WANTED, mark);
    }

    pub(super) fn wanted_dog(&self) -> (u64, Span) {
        (self.get(head::DOG_WANTED), Span::from_ms(self.get(head::DOG_MAY_WAIT)))
    }

    /// The watchdog that the guard has, by its mark, and how long it waits; 0: none.
    pub(super) fn dog_is(&self, mark: u64, within: Span) {
        self.set(head::DOG_WAITS, within.ms());
        self.set(head::DOG, mark);
    }

    pub(super) fn dog(&self) -> (u64, Span) {
        (self.get(head::DOG), Span::from_ms(self.get(head::DOG_WAITS)))
    }

    /// The guard was awake now, in the middle of its work.
    pub(super) fn awake_at(&self, now: BootTime) {
        self.set(head::BEAT, now.0);
    }

    /// The guard was awake now, and has asked for memory so often since it watches.
    pub(super) fn beat(&self, now: BootTime, allocations: u64) {
        self.set(head::ALLOCATIONS, allocations);
        self.set(head::BEAT, now.0);
    }

    /// When the guard was awake last.
    #[must_use]
    pub fn last_beat(&self) -> BootTime {
        BootTime(self.get(head::BEAT))
    }

    /// How often the guard asked for memory since it watches. It never should.
    #[must_use]
    pub fn allocations(&self) -> u64 {
        self.get(head::ALLOCATIONS)
    }

    /// How many grains the guard had to end because their keepers did not.
    #[must_use]
    pub fn kills(&self) -> u64 {
        self.get(head::KILLS)
    }

    pub(super) fn count_kill(&self) {
        self.set(head::KILLS, self.kills().saturating_add(1));
    }

    /// The daemon that lives now.
    pub(super) fn daemon_is(&self, daemon: Process) {
        self.set(head::DAEMON_STARTED, daemon.started);
        self.set(head::DAEMON_PID, daemon.pid.unsigned_abs().into());
    }

    pub(super) fn daemon(&self) -> Option<Process> {
        process(self.get(head::DAEMON_PID), self.get(head::DAEMON_STARTED))
    }

    /// Every grain that runs here is on this board. Only then its guard can say that nothing runs.
    pub(super) fn is_whole(&self, whole: bool) {
        self.set(head::WHOLE, u64::from(whole));
    }

    pub(super) fn knows_all(&self) -> bool {
        self.get(head::WHOLE) == 1
    }

    /// A registration begins, and what proves its end. It is not over before a lease was granted under it.
    pub(super) fn register(&self, node: u64, boot: BootId, token: &[u8; 32]) {
        self.set(head::BOOT, 0);
        self.set(head::LEASE, 0);
        self.put(head::TOKEN, token);
        self.set(head::NODE, node);
        self.set(head::BOOT, boot.0);
    }

    /// The registration that counts. `None`: there is none.
    pub(super) fn registration(&self) -> Option<BootId> {
        Some(BootId(self.get(head::BOOT))).filter(|boot| boot.0 != 0)
    }

    pub(super) fn token(&self) -> [u8; 32] {
        let mut token = [0; 32];
        self.take(head::TOKEN, 32, &mut token);
        token
    }

    pub(super) fn node(&self) -> u64 {
        self.get(head::NODE)
    }

    /// Until when grains may run here under the lease. Only ever later.
    pub fn lease_until(&self, deadline: BootTime) {
        if let Some(word) = self.word(head::LEASE) {
            word.fetch_max(deadline.0, Ordering::SeqCst);
        }
    }

    pub(super) fn lease(&self) -> BootTime {
        BootTime(self.get(head::LEASE))
    }

    /// Nothing that needs the lease begins under this registration any more.
    pub(super) fn close(&self, boot: BootId) {
        self.set(head::CLOSED, boot.0);
    }

    /// Whether this registration is over, by the guard's word.
    #[must_use]
    pub fn is_closed(&self, boot: BootId) -> bool {
        boot.0 != 0 && self.get(head::CLOSED) == boot.0
    }

    /// Whether the registration that counts is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.registration().is_some_and(|boot| self.is_closed(boot))
    }

    /// Whom the guard tells of the end of a registration.
    pub fn tell(&self, peers: &[SocketAddr]) {
        self.set(head::PEERS, 0);
        for (index, peer) in peers.iter().take(PEERS_MAX).enumerate() {
            let at = head::PEER + index * PEER_WORDS;
            let ip = match peer.ip() {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            self.put(at, &ip.octets());
            self.set(at + 2, u64::from(peer.port()));
            let scope = match peer {
                SocketAddr::V4(_) => 0,
                SocketAddr::V6(peer) => peer.scope_id(),
            };
            self.set(at + 3, u64::from(scope));
        }
        self.set(head::PEERS, peers.len().min(PEERS_MAX) as u64);
    }

    /// One of them.
    pub(super) fn peer(&self, index: usize) -> Option<SocketAddr> {
        if index >= narrow(self.get(head::PEERS)).min(PEERS_MAX) {
            return None;
        }
        let at = head::PEER + index * PEER_WORDS;
        let mut octets = [0; 16];
        self.take(at, 16, &mut octets);
        let port = u16::try_from(self.get(at + 2)).ok()?;
        let ip = Ipv6Addr::from(octets);
        Some(match ip.to_ipv4_mapped() {
            Some(ip) => SocketAddr::new(IpAddr::V4(ip), port),
            None => {
                let scope = u32::try_from(self.get(at + 3)).unwrap_or(0);
                std::net::SocketAddrV6::new(ip, port, 0, scope).into()
            }
        })
    }
}

fn process(pid: u64, started: u64) -> Option<Process> {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    Some(Process { pid, started })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::IdRange;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn path(&self) -> &Path {
            self.0.path()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            remove(self.path()).unwrap();
        }
    }

    fn board() -> (Folder, Board) {
        let folder = Folder(tempfile::tempdir().unwrap());
        let board = Board::make(&Board::path(folder.path())).unwrap();
        (folder, board)
    }

    const KEEPER: Process = Process { pid: 4711, started: 99 };

    fn entry(deadline: Option<BootTime>) -> Entry<'static> {
        let ids = Some(IdRange { base: 1_000_000, count: 65_536 });
        Entry { keeper: KEEPER, tag: "grain.1.ab", group: Some("scrap-x-y"), ids, deadline }
    }

    #[test]
    fn what_a_keeper_enters_another_process_reads() {
        let (folder, mine) = board();
        let theirs = Board::open(&Board::path(folder.path())).unwrap();
        let slot = mine.enter(&entry(Some(BootTime(5)))).unwrap();
        let read = theirs.slots().next().unwrap();
        assert_eq!(read.holder(), Holder::Keeper(KEEPER));
        assert_eq!(read.deadline(), Some(BootTime(5)));
        assert_eq!(read.tag(&mut [0; TAG_MAX]), b"grain.1.ab");
        assert_eq!(read.group(&mut [0; GROUP_MAX]), b"scrap-x-y");
        assert_eq!(read.ids(), Some(IdRange { base: 1_000_000, count: 65_536 }));
        slot.live_until(None);
        assert_eq!(read.deadline(), None);
        slot.leave();
        assert_eq!(read.holder(), Holder::Nobody);
    }

    #[test]
    fn a_full_board_takes_nobody_and_names_that_are_too_long_are_refused() {
        let (_folder, board) = board();
        for _ in 0..SLOTS {
            board.enter(&entry(None)).unwrap();
        }
        assert_eq!(board.enter(&entry(None)).unwrap_err().kind(), io::ErrorKind::StorageFull);
        board.slots().nth(7).unwrap().leave();
        board.enter(&entry(None)).unwrap();
        let long = "x".repeat(TAG_MAX + 1);
        let refused = board.enter(&Entry { tag: &long, ..entry(None) }).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_registration_is_over_only_if_it_is_the_one_that_was_closed() {
        let (_folder, board) = board();
        assert!(!board.is_over());
        board.register(3, BootId(8), &[7; 32]);
        assert_eq!((board.node(), board.token()), (3, [7; 32]));
        board.close(BootId(8));
        assert!(board.is_over() && board.is_closed(BootId(8)));
        board.register(3, BootId(9), &[6; 32]);
        assert!(!board.is_over() && !board.is_closed(BootId(9)));
        assert!(board.is_closed(BootId(8)));
    }

    #[test]
    fn whom_to_tell_is_kept_as_it_was_said() {
        let (_folder, board) = board();
        let peers: Vec<SocketAddr> = ["10.1.2.3:7273", "[fd00::1]:9", "[fe80::1%7]:65535"]
            .map(|peer| peer.parse().unwrap())
            .to_vec();
        board.tell(&peers);
        let read: Vec<SocketAddr> = (0..9).map_while(|index| board.peer(index)).collect();
        assert_eq!(read, peers);
        board.tell(&[]);
        assert_eq!(board.peer(0), None);
    }

    #[test]
    fn a_lease_only_becomes_longer_and_is_of_one_registration() {
        let (_folder, board) = board();
        board.lease_until(BootTime(9));
        board.lease_until(BootTime(4));
        assert_eq!(board.lease(), BootTime(9));
        board.register(3, BootId(8), &[7; 32]);
        assert_eq!(board.lease(), BootTime::default(), "not of another registration");
    }

    #[test]
    fn one_guard_at_a_time_and_another_board_is_noticed() {
        let (folder, mine) = board();
        let path = Board::path(folder.path());
        let theirs = Board::open(&path).unwrap();
        assert!(!theirs.is_guarded().unwrap());
        assert!(mine.lock().unwrap());
        assert!(theirs.is_guarded().unwrap() && !theirs.lock().unwrap());
        assert!(!mine.is_replaced());
        Board::make(&path).unwrap();
        assert!(mine.is_replaced());
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(Board::open(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
