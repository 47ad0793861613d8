//! What an init says of its services, in words of ours. Everything that comes from a grain is text that may be anything.

use serde::Deserialize;

use scrap_schema::id::GrainId;

use super::beside::refuse_frozen;
use super::{LxcRuntime, inside};
use crate::runtime::{Activity, RuntimeCause, ServiceState};

/// Asks runit for the services that there are, wherever the distribution keeps them.
const RUNIT_SCRIPT: &str = "for service in /etc/service/* /var/service/* /run/runit/service/*; do
  [ ! -d \"$service\" ] || set -- \"$@\" \"$service\"
done
[ $# = 0 ] || exec sv status \"$@\"";
/// More are not told.
const SERVICES_MAX: usize = 1000;

/// A line of `systemctl list-units --output=json`.
#[derive(Debug, Deserialize)]
struct Unit {
    unit: String,
    active: String,
    sub: String,
}

fn of_systemd(text: &str) -> Option<Vec<ServiceState>> {
    let units: Vec<Unit> = serde_json::from_str(text).ok()?;
    let state = |unit: Unit| {
        let activity = match unit.active.as_str() {
            "active" => Activity::Active,
            "activating" | "deactivating" | "reloading" => Activity::Changing,
            "failed" => Activity::Failed,
            _ => Activity::Inactive,
        };
        ServiceState { name: unit.unit, activity, words: format!("{} ({})", unit.active, unit.sub) }
    };
    Some(units.into_iter().map(state).collect())
}

/// Lines of `rc-status --all --format ini`: `sshd = started`.
fn of_openrc(text: &str) -> Vec<ServiceState> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let state = |(name, words): (&str, &str)| {
        let words = words.trim();
        let activity = match words.split(' ').next().unwrap_or_default() {
            "started" => Activity::Active,
            "starting" | "stopping" => Activity::Changing,
            "crashed" | "failed" => Activity::Failed,
            _ => Activity::Inactive,
        };
        ServiceState { name: name.trim().to_owned(), activity, words: words.to_owned() }
    };
    lines.map(state).collect()
}

/// Lines of `sv status`: `run: /etc/service/nginx: (pid 33) 12s`. Each begins with what its supervisor does; of one that
/// is down the end says whether it is about to be started again.
fn of_runit(text: &str) -> Vec<ServiceState> {
    let state = |line: &str| {
        let (word, rest) = line.split_once(": ")?;
        let (folder, more) = rest.split_once(": ")?;
        // What is logged beside a service has its own part of the line.
        let own = more.split(';').next().unwrap_or_default().trim();
        let activity = match word {
            "run" => Activity::Active,
            "finish" => Activity::Changing,
            "down" if own.contains("want up") => Activity::Changing,
            "fail" | "warning" => Activity::Failed,
            _ => Activity::Inactive,
        };
        let name = folder.rsplit('/').next().unwrap_or(folder).to_owned();
        // Without how long it is so: that is never the same.
        let why = match own.split_once(", ") {
            Some((_, why)) => why,
            None if activity == Activity::Failed => own,
            None => "",
        };
        let words = if why.is_empty() { word.to_owned() } else { format!("{word} ({why})") };
        Some(ServiceState { name, activity, words })
    };
    text.lines().filter_map(state).collect()
}

impl LxcRuntime {
    /// Asks the init's own tool. Where there is none, nothing is known.
    pub(super) async fn list_services(
        &self,
        grain: GrainId,
    ) -> Result<Vec<ServiceState>, RuntimeCause> {
        const SYSTEMD: [&str; 8] = [
            "systemctl",
            "list-units",
            "--type=service",
            "--all",
            "--no-pager",
            "--plain",
            "--full",
            "--output=json",
        ];
        const OPENRC: [&str; 4] = ["rc-status", "--all", "--format", "ini"];
        const RUNIT: [&str; 3] = ["sh", "-c", RUNIT_SCRIPT];
        let (record, init) = self.running(grain).await?;
        refuse_frozen(&record)?;
        let there = |program: &'static str| async move {
            let look = tokio::task::spawn_blocking(move || inside::find_program(init, program));
            matches!(look.await, Ok(Ok(())))
        };
        let mut services = if there("systemctl").await {
            let (succeeded, text) = self.ask_inside(grain, &SYSTEMD).await?;
            // Installed, but not the init: it says so by failing.
            of_systemd(&text).filter(|_| succeeded).unwrap_or_default()
        } else if there("rc-status").await {
            let (succeeded, text) = self.ask_inside(grain, &OPENRC).await?;
            if succeeded { of_openrc(&text) } else { Vec::new() }
        } else if there("sv").await {
            // Its exit status counts those that do not run.
            of_runit(&self.ask_inside(grain, &RUNIT).await?.1)
        } else {
            Vec::new()
        };
        services.truncate(SERVICES_MAX);
        services.sort_by(|one, other| one.name.cmp(&other.name));
        services.dedup_by(|one, other| one.name == other.name);
        Ok(services)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_says_is_understood() {
        let text = r#"[{"unit":"ssh.service","load":"loaded","active":"active","sub":"running","description":"x"},
            {"unit":"b.service","load":"loaded","active":"failed","sub":"failed","description":"y"}]"#;
        let services = of_systemd(text).unwrap();
        assert_eq!(services[0].name, "ssh.service");
        assert_eq!(
            (services[0].activity, services[0].words.as_str()),
            (Activity::Active, "active (running)")
        );
        assert_eq!(services[1].activity, Activity::Failed);
        assert_eq!(of_systemd("System has not been booted with systemd"), None);
    }

    #[test]
    fn what_openrc_says_is_understood() {
        let services = of_openrc("[default]\nsshd =  started\ncron = crashed\nodd\n");
        let all: Vec<_> = services.iter().map(|one| (one.name.as_str(), one.activity)).collect();
        assert_eq!(all, [("sshd", Activity::Active), ("cron", Activity::Failed)]);
    }

    #[test]
    fn what_runit_says_is_understood() {
        let services = of_runit(
            "run: /etc/service/nginx: (pid 33) 12s; run: log: (pid 32) 12s\n\
             down: /etc/service/a: 0s, normally up, want up\n\
             down: /etc/service/b: 7s, normally up\n\
             finish: /etc/service/c: (pid 9) 1s\n\
             fail: /etc/service/d: unable to change to service directory: file does not exist\nodd\n",
        );
        let all: Vec<_> = services.iter().map(|one| (one.name.as_str(), one.activity)).collect();
        assert_eq!(
            all,
            [
                ("nginx", Activity::Active),
                ("a", Activity::Changing),
                ("b", Activity::Inactive),
                ("c", Activity::Changing),
                ("d", Activity::Failed)
            ]
        );
        let words: Vec<_> = services.iter().map(|one| one.words.as_str()).collect();
        let failed = "fail (unable to change to service directory: file does not exist)";
        assert_eq!(
            words,
            ["run", "down (normally up, want up)", "down (normally up)", "finish", failed]
        );
    }
}
