//! Commands about templates: imported, spread to the nodes that need them, removed.

use scrap_schema::command::Command;
use scrap_schema::event::{Severity, Topic};
use scrap_schema::id::{NodeId, TemplateId};
use scrap_schema::spec::PROCESS;

use super::{About, Change, unchanged_since};
use crate::cluster::{Grain, Key, Outcome, TemplateState};
use crate::refusal::Refusal;

/// How many users of a thing a refusal names.
const NAMED_MAX: usize = 8;

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the dispatcher sends only the commands about templates here"
)]
pub(super) fn apply(change: &mut Change<'_>, command: &Command) -> Result<Outcome, Refusal> {
    match command {
        Command::AddTemplate { template, name, guid, size, arch, os, description, node } => {
            let template = TemplateState {
                id: *template,
                name: name.clone(),
                guid: *guid,
                size: *size,
                arch: arch.clone(),
                os: os.clone(),
                description: description.clone(),
                imported: change.at,
                origin: *node,
                holders: [*node].into(),
                modified: change.index,
            };
            add(change, template)
        }
        Command::TemplateHeld { template, node } => held(change, *template, *node),
        Command::TemplateLost { template, node } => lost(change, *template, *node),
        Command::RemoveTemplate { template, if_index } => remove(change, *template, *if_index),
        _ => Err(Refusal::out_of_date("not a command about templates")),
    }
}

/// A few names of many.
pub(super) fn several(names: &[String]) -> String {
    let named: Vec<&str> = names.iter().take(NAMED_MAX).map(String::as_str).collect();
    match names.len().saturating_sub(NAMED_MAX) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn no_template(id: TemplateId) -> Refusal {
    Refusal::NotFound { what: "template".to_owned(), name: id.to_string() }
}

/// A word that a machine says about itself.
fn is_word(text: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !text.is_empty() && text.len() <= 32 && text.bytes().all(sound)
}

const DESCRIPTION_MAX: usize = 1024;

fn add(change: &mut Change<'_>, template: TemplateState) -> Result<Outcome, Refusal> {
    let id = template.id;
    if let Some(known) = change.cluster.templates.get(&id) {
        return match known.guid == template.guid {
            true => Ok(Outcome::Unchanged),
            false => Err(Refusal::out_of_date("its id is taken")),
        };
    }
    if change.cluster.removed_templates.contains(&id) {
        return Err(Refusal::out_of_date("its id is taken"));
    }
    if change.cluster.template_named(&template.name).is_some() {
        return Err(Refusal::NameTaken { what: "template".to_owned(), name: template.name });
    }
    if template.name.as_str() == PROCESS {
        let why = format!("`{PROCESS}` means programs of the machine: choose another name");
        return Err(Refusal::Invalid { why });
    }
    if !is_word(&template.arch) || !is_word(&template.os) {
        let why = "architecture and system of a template are words such as x86_64 and linux";
        return Err(Refusal::Invalid { why: why.to_owned() });
    }
    let said = template.description.as_deref().unwrap_or_default();
    if said.len() > DESCRIPTION_MAX || said.chars().any(char::is_control) {
        let why = format!("a description is one line of at most {DESCRIPTION_MAX} bytes");
        return Err(Refusal::Invalid { why });
    }
    let node = template.origin;
    if !change.cluster.nodes.contains_key(&node) {
        return Err(Refusal::no_node(node));
    }
    let message = format!(
        "template {} was imported on node {}",
        template.name,
        change.cluster.node_name(node)
    );
    change.cluster.templates.insert(id, template);
    change.touch(Key::Template(id));
    change.tell(Topic::Template, Severity::Info, About::node(node), message);
    Ok(Outcome::Done)
}

fn held(change: &mut Change<'_>, id: TemplateId, node: NodeId) -> Result<Outcome, Refusal> {
    if !change.cluster.nodes.contains_key(&node) {
        return Err(Refusal::no_node(node));
    }
    let template = change.cluster.templates.get_mut(&id).ok_or_else(|| no_template(id))?;
    if !template.holders.insert(node) {
        return Ok(Outcome::Unchanged);
    }
    let name = template.name.clone();
    change.touch(Key::Template(id));
    let message = format!("node {} has template {name}", change.cluster.node_name(node));
    change.tell(Topic::Template, Severity::Info, About::node(node), message);
    Ok(Outcome::Done)
}

fn lost(change: &mut Change<'_>, id: TemplateId, node: NodeId) -> Result<Outcome, Refusal> {
    let template = change.cluster.templates.get_mut(&id).ok_or_else(|| no_template(id))?;
    if !template.holders.remove(&node) {
        return Ok(Outcome::Unchanged);
    }
    let (name, last) = (template.name.clone(), template.holders.is_empty());
    change.touch(Key::Template(id));
    let where_from = change.cluster.node_name(node);
    let (severity, message) = match last {
        false => (Severity::Info, format!("node {where_from} has template {name} no longer")),
        true => (
            Severity::Critical,
            format!("node {where_from} has template {name} no longer, and no other node has it"),
        ),
    };
    change.tell(Topic::Template, severity, About::node(node), message);
    Ok(Outcome::Done)
}

/// A node is no member any more.
pub(super) fn forget_holder(change: &mut Change<'_>, node: NodeId) {
    let templates = change.cluster.templates.values_mut();
    let held =
        templates.filter_map(|template| template.holders.remove(&node).then_some(template.id));
    for id in held.collect::<Vec<_>>() {
        change.touch(Key::Template(id));
    }
}

fn remove(
    change: &mut Change<'_>,
    id: TemplateId,
    if_index: Option<u64>,
) -> Result<Outcome, Refusal> {
    let template = change.cluster.templates.get(&id).ok_or_else(|| no_template(id))?;
    unchanged_since("template", &template.name, template.modified, if_index)?;
    let name = template.name.clone();
    let grains = change.cluster.grains.values().filter(|grain| grain.template == Some(id));
    let users: Vec<String> = grains.map(Grain::called).collect();
    if !users.is_empty() {
        let (what, name, by) = ("template".to_owned(), name.to_string(), several(&users));
        return Err(Refusal::InUse { what, name, by });
    }
    change.cluster.templates.remove(&id);
    change.cluster.removed_templates.insert(id);
    change.touch(Key::Template(id));
    change.touch(Key::RemovedTemplate(id));
    let message = format!(
        "template {name} was removed: every node removes its data now, one that is away when it is back"
    );
    change.tell(Topic::Template, Severity::Info, About::default(), message);
    Ok(Outcome::Done)
}
