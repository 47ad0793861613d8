//! A grain's root plants links that lead out of its system: whatever is done to the grain follows none of them.

use anyhow::Context;
use scrap_schema::api::GrainState;
use scrap_tests::platform::book::{Book, Kind};
use scrap_tests::platform::{Lab, Spec};

use crate::{launched, prepared};

/// A file of the node that no grain may read or change.
const TREASURE: &str = "/run/treasure";

async fn untouched(lab: &Lab, when: &str) -> anyhow::Result<()> {
    for node in scrap_tests::platform::NAMES {
        let found = lab.sh(node, &format!("cat {TREASURE}; stat -c '%U %a' {TREASURE}")).await?;
        assert_eq!(found, "gold\nroot 600\n", "{node}, after {when}");
        let more = lab.sh(node, &format!("ls {TREASURE}.d; stat -c %U {TREASURE}.d")).await?;
        assert_eq!(more, "root\n", "{node}, after {when}");
    }
    Ok(())
}

async fn inside(lab: &Lab, text: &str) -> anyhow::Result<String> {
    lab.ctl(&["exec", "web", "--", "sh", "-ec", text]).await
}

#[tokio::test]
async fn links_that_a_grain_has_planted_lead_nowhere() -> anyhow::Result<()> {
    let Some(lab) = prepared(Spec::default(), Kind::Busybox, 1).await? else { return Ok(()) };
    for node in scrap_tests::platform::NAMES {
        let make = format!(
            "echo gold >{TREASURE}; chmod 600 {TREASURE}; mkdir {TREASURE}.d; chmod 700 {TREASURE}.d"
        );
        lab.sh(node, &make).await?;
    }
    let web = Book::new("web", Kind::Busybox, 70)?.on("ada");
    launched(&lab, &web, 1).await?;
    lab.ctl(&["snapshot", "web", "before"]).await?;
    let plant = format!(
        "for there in /etc/passwd /etc/hosts /etc/hostname /etc/resolv.conf /console /log; do \
         ln -sf {TREASURE} $there; done; \
         for there in /proc/x /var/log /tmp/out /root; do \
         rm -rf $there 2>/dev/null || true; ln -sfn {TREASURE}.d $there || true; done"
    );
    inside(&lab, &plant).await?;

    // exec, by path and with a link as its program's folder; logs; copies from and to the grain.
    let said = lab.ctl_said(&["exec", "web", "--", "cat", "/etc/passwd"]).await?;
    assert!(!said.all().contains("gold"), "{}", said.all());
    let said = lab.ctl_said(&["logs", "web"]).await?;
    assert!(!said.all().contains("gold"), "{}", said.all());
    untouched(&lab, "exec and logs").await?;
    for arguments in [
        ["pull", "web:/etc/passwd", "-"],
        ["push", "/etc/hostname", "web:/etc/hosts"],
        ["push", "/etc/hostname", "web:/root/planted"],
    ] {
        let said = lab.ctl_said(&arguments).await?;
        assert!(!said.all().contains("gold"), "{arguments:?}: {}", said.all());
        untouched(&lab, &arguments.join(" ")).await?;
    }

    // The links travel with the data, and are met again by every start, move, clone and restore.
    lab.ctl(&["restart", "web"]).await?;
    untouched(&lab, "a restart").await?;
    lab.ctl(&["migrate", "web", "--to", "ben"]).await?;
    untouched(&lab, "a move").await?;
    lab.ctl(&["clone", "web", "twin"]).await?;
    untouched(&lab, "a clone").await?;
    lab.ctl(&["restore", "web", "before"]).await?;
    lab.grain_is("web", "runs again", |grain| grain.status.state == GrainState::Running).await?;
    untouched(&lab, "a restore").await?;
    lab.end().await
}

#[tokio::test]
async fn a_template_cannot_write_outside_of_itself() -> anyhow::Result<()> {
    let Some(lab) = scrap_tests::platform::up(Spec::default()).await? else { return Ok(()) };
    for node in scrap_tests::platform::NAMES {
        let make = format!(
            "echo gold >{TREASURE}; chmod 600 {TREASURE}; mkdir {TREASURE}.d; chmod 700 {TREASURE}.d"
        );
        lab.sh(node, &make).await?;
    }
    let folder = lab.dir.join("evil");
    let make = format!(
        "mkdir -p {0}/a {0}/b; cd {0}; \
         ln -s {TREASURE}.d a/etc; tar -cf link.tar -C a etc; \
         mkdir b/etc; echo bad >b/etc/passwd; tar -rf link.tar -C b etc/passwd; \
         echo bad >up; tar -cPf climb.tar --transform 's,^up,../../../../../../..{TREASURE}.d/up,' up; \
         tar -cPf absolute.tar --transform 's,^up,{TREASURE}.d/up,' up; \
         mknod disk b 7 0; tar -cf device.tar disk; \
         echo gold-digger >hard; ln hard link; tar -cPf hard.tar --transform 's,^hard,{TREASURE},' hard link",
        folder.display()
    );
    lab.sh("client", &make).await?;
    for name in ["link", "climb", "absolute", "device", "hard"] {
        let file = folder.join(format!("{name}.tar")).display().to_string();
        let said = lab.ctl_said(&["template", "import", name, &file]).await?;
        eprintln!("{name}: {}: {}", said.status, said.all().trim());
        untouched(&lab, name).await?;
    }
    let devices = format!("find {} -type b -o -type c", lab.dir.join("nodes/ada/pool").display());
    assert_eq!(lab.sh("ada", &devices).await?, "", "a device came out of a template");
    let list = lab.ctl(&["template", "ls"]).await.context("templates are listed")?;
    assert!(!list.contains("climb"), "{list}");
    lab.end().await
}
