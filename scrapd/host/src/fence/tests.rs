//! Against programs that follow the protocol, or do not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use scrap_schema::unit::Span;
use tempfile::TempDir;

use super::*;

/// Reads its lines as an agent does, keeps a device in the file that `ip` names, and notes its environment beside it.
const HONEST: &str = r#"#!/bin/sh
while read -r line; do
  case "$line" in
    action=*) action=${line#action=} ;;
    ip=*) device=${line#ip=} ;;
    nodename=*) node=${line#nodename=} ;;
  esac
done
env > "$device.env"
case "$action" in
  off) echo "off $node" > "$device"; exit 0 ;;
  status) if [ "$(cat "$device")" = "off $node" ]; then exit 2; else exit 0; fi ;;
esac
exit 1
"#;

struct Lab {
    root: TempDir,
    places: Places,
}

impl Lab {
    fn new(name: &str, program: &str) -> Self {
        let root = tempfile::tempdir_in("/tmp").unwrap();
        let place = |name: &str| {
            let path = root.path().join(name);
            fs::create_dir(&path).unwrap();
            set_mode(&path, 0o700);
            path
        };
        let places =
            Places { settings: place("settings"), agents: place("agents"), hooks: place("hooks") };
        let folder = if name.starts_with("fence_") { &places.agents } else { &places.hooks };
        write(&folder.join(name), program, 0o755);
        let lab = Self { root, places };
        fs::write(lab.device(), "on").unwrap();
        let settings =
            format!("# the switch in the cellar\nip={}\nplug=3\n", lab.device().display());
        write(&lab.settings(), &settings, 0o600);
        lab
    }

    fn device(&self) -> PathBuf {
        self.root.path().join("device")
    }

    fn settings(&self) -> PathBuf {
        self.places.settings.join("bob.conf")
    }

    async fn cut(&self, spec: &FenceSpec) -> String {
        let cut = cut(&self.places, &"bob".parse().unwrap(), spec).await;
        cut.map_or_else(|error| error.to_string(), |()| "off".to_owned())
    }

    async fn look(&self, spec: &FenceSpec) -> String {
        let look = look(&self.places, &"bob".parse().unwrap(), spec).await;
        look.map_or_else(|error| error.to_string(), |power| power.to_string())
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    set_mode(path, mode);
}

fn spec(program: &str) -> FenceSpec {
    let protocol =
        if program.starts_with("fence_") { FenceProtocol::Agent } else { FenceProtocol::Hook };
    FenceSpec { program: program.parse().unwrap(), protocol, timeout: Span::from_secs(20) }
}

/// What becomes of a cut with an agent that does this.
async fn check(body: &str, expected: &str) {
    let lab = Lab::new("fence_test", &format!("#!/bin/sh\ncat > /dev/null\n{body}\n"));
    assert_eq!(lab.cut(&spec("fence_test")).await, expected, "{body}");
}

#[tokio::test]
async fn an_agent_cuts_the_power_and_is_asked_whether_it_is_off() {
    let lab = Lab::new("fence_test", HONEST);
    let spec = spec("fence_test");
    assert_eq!(lab.look(&spec).await, "on");
    assert_eq!(lab.cut(&spec).await, "off");
    assert_eq!(lab.look(&spec).await, "off");
    // Done twice it is done once.
    assert_eq!(lab.cut(&spec).await, "off");
    let environment = fs::read_to_string(lab.device().with_extension("env")).unwrap();
    let own = |line: &str| {
        ["PATH", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"]
            .iter()
            .any(|name| line.starts_with(&format!("{name}=")))
    };
    let foreign: Vec<&str> = environment.lines().filter(|line| !own(line)).collect();
    assert_eq!(foreign, Vec::<&str>::new(), "nothing of the daemon's environment");
}

#[tokio::test]
async fn whatever_is_no_confirmation_is_a_failure() {
    check("exit 0", "`fence_test` says that the power is cut, and then that it is on").await;
    let unable = "echo starting >&2; echo 'Unable to connect/login to fencing device' >&2; exit 1";
    let said = "`fence_test off` ended with status 1: Unable to connect/login to fencing device";
    check(unable, said).await;
    check("exit 2", "`fence_test off` ended with status 2").await;
    check("kill -9 $$", "`fence_test off` ended with a signal").await;
    // Much of what is no text, and what it leaves running holds its output open.
    let garbage = "head -c 300000 /dev/zero >&2; sleep 300 & exit 9";
    check(garbage, "`fence_test off` ended with status 9: ").await;
}

#[tokio::test]
async fn a_status_that_fails_after_the_cut_confirms_nothing() {
    let program = HONEST.replace("status) if", "status) exit 1; if");
    let lab = Lab::new("fence_test", &program);
    let spec = spec("fence_test");
    assert_eq!(lab.cut(&spec).await, "`fence_test status` ended with status 1");
    assert_eq!(lab.look(&spec).await, "`fence_test status` ended with status 1");
}

#[tokio::test]
async fn a_slow_agent_is_killed_with_what_it_has_started() {
    let lab = Lab::new("fence_test", "#!/bin/sh\nsleep 300 &\necho $! > \"$0.child\"\nwait\n");
    let slow = FenceSpec { timeout: Span::from_secs(1), ..spec("fence_test") };
    assert_eq!(lab.cut(&slow).await, "`fence_test off` did not end within 1 s");
    let child = fs::read_to_string(lab.places.agents.join("fence_test.child")).unwrap();
    let stat = PathBuf::from(format!("/proc/{}/stat", child.trim()));
    // Killed, and at most not yet buried.
    let runs = || fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
    while runs() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_hook_gets_what_to_do_and_of_whom_and_its_end_is_its_word() {
    let hook = "#!/bin/sh\necho \"$@\" > \"$0.said\"\n[ \"$1\" = off ] || exit 2\n";
    let lab = Lab::new("cut-power", hook);
    let said = || fs::read_to_string(lab.places.hooks.join("cut-power.said")).unwrap();
    assert_eq!(lab.cut(&spec("cut-power")).await, "off");
    assert_eq!(said(), "off bob\n");
    assert_eq!(lab.look(&spec("cut-power")).await, "off");
    assert_eq!(said(), "status bob\n");
    fs::remove_file(lab.settings()).unwrap();
    assert_eq!(lab.cut(&spec("cut-power")).await, "off", "a hook needs no settings");
    let failing = Lab::new("cut-power", "#!/bin/sh\nexit 3\n");
    assert_eq!(failing.cut(&spec("cut-power")).await, "`cut-power off` ended with status 3");
}

#[tokio::test]
async fn what_others_may_have_written_is_not_used() {
    let lab = Lab::new("fence_test", HONEST);
    let program = lab.places.agents.join("fence_test");
    let refuses = async |path: &Path, why: &str| {
        let said = lab.cut(&spec("fence_test")).await;
        assert_eq!(said, format!("`{}` is not used: {why}", path.display()));
        assert_eq!(fs::read_to_string(lab.device()).unwrap(), "on", "nothing was started");
    };
    set_mode(&program, 0o777);
    refuses(&program, "others may write to it").await;
    set_mode(&program, 0o644);
    refuses(&program, "it is no program: it cannot be executed").await;
    set_mode(&program, 0o755);
    set_mode(&lab.places.agents, 0o777);
    refuses(&lab.places.agents, "others may write to it").await;
    set_mode(&lab.places.agents, 0o755);
    set_mode(&lab.settings(), 0o640);
    refuses(&lab.settings(), "others may read the secrets in it").await;
    set_mode(&lab.settings(), 0o600);
    assert_eq!(lab.cut(&spec("fence_test")).await, "off");
}

#[tokio::test]
async fn settings_that_are_missing_or_say_what_only_scrap_says_are_refused() {
    let lab = Lab::new("fence_test", HONEST);
    let path = lab.settings();
    let says = async |text: &str, why: &str| {
        write(&path, text, 0o600);
        let said = lab.cut(&spec("fence_test")).await;
        assert_eq!(said, format!("line 2 of `{}` is {why}", path.display()), "{text}");
    };
    says("ip=1\naction=on\n", "about what only SCRAP says: `action`, `option`, `nodename`").await;
    says("ip=1\nplug 3\n", "no `key=value`").await;
    says("ip=1\npl ug=3\n", "no `key=value`: a key has letters, digits, `-` and `_`").await;
    fs::remove_file(&path).unwrap();
    let missing = format!("there is no `{}` on this node", path.display());
    assert_eq!(lab.cut(&spec("fence_test")).await, missing);
    let other = lab.places.agents.join("fence_other");
    let missing = format!("there is no `{}` on this node", other.display());
    assert_eq!(lab.cut(&spec("fence_other")).await, missing);
}
