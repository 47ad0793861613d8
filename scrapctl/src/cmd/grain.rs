//! Verbs of grains: list, show, make, remove, start, stop, place, move.

use std::net::IpAddr;

use scrap_schema::api::{
    DryRun, FailoverBody, GrainView, MigrateBody, OperationView, PlacementView,
};
use scrap_schema::id::Name;
use scrap_schema::manifest::API_VERSION;
use scrap_schema::problem::{Code, Exit};
use serde_json::{Map, Value, json};

use super::names::Noun;
use super::{Ctx, operation, show};
use crate::cli::{
    Exposed, FailoverArgs, GrainsWaitArgs, LaunchArgs, LsArgs, MigrateArgs, Output, PlaceArgs,
    RmArgs,
};
use crate::client::Reply;
use crate::client::call::Call;
use crate::failure::Failure;
use crate::render::{grains, place as placement, plan};

/// Lists grains.
pub(crate) async fn ls(ctx: &Ctx, args: &LsArgs) -> Result<(), Failure> {
    let call = Call::get(&["grains"]).query_if("selector", args.selector.as_ref());
    let call = if args.trashed { call.query("trashed", true) } else { call };
    let grains: Vec<GrainView> = ctx.read(call).await?;
    let nothing = match (args.trashed, &args.selector) {
        (true, _) => "the trash is empty",
        (false, Some(_)) => "no grain has these labels",
        (false, None) => "there are no grains yet; make one with `scrapctl launch`",
    };
    show::list(ctx, &grains, |theme| grains::grid(&grains, theme), &args.list, nothing)
}

/// Shows everything about one.
pub(crate) async fn info(ctx: &Ctx, grain: &Name) -> Result<(), Failure> {
    let read = ctx.read(Call::get(&["grains", grain.as_str()])).await;
    let view: GrainView = ctx.named(read, &[(Noun::Grain, grain)]).await?;
    let clock = ctx.clock();
    show::one(
        ctx,
        &view,
        |theme| grains::info(&view, &clock, theme),
        |theme| grains::grid(std::slice::from_ref(&view), theme),
    )
}

/// Makes a grain.
pub(crate) async fn launch(ctx: &Ctx, args: LaunchArgs) -> Result<(), Failure> {
    let wait = args.wait;
    let protect = args.protect.clone();
    let call = Call::post(&["grains"]).json(&launch_manifest(args));
    let begun = ctx.client.value(&call).await;
    let names: Vec<(Noun, &Name)> = protect.iter().map(|name| (Noun::Policy, name)).collect();
    let begun: OperationView = ctx.named(begun, &names).await?;
    operation::finish(ctx, vec![begun], wait).await
}

/// The manifest says what the person said; everything else is for the cluster's defaults.
fn launch_manifest(args: LaunchArgs) -> Value {
    let mut spec = Map::new();
    let mut set = |key: &str, value: Value| {
        spec.insert(key.to_owned(), value);
    };
    set("template", json!(args.template));
    if !args.command.is_empty() {
        set("command", json!(args.command));
    }
    if let Some(network) = &args.network {
        let (network, ingress) = attached(network, &args.ip, &args.expose);
        set("network", network);
        if !args.expose.is_empty() {
            set("ingress", ingress);
        }
    }
    let mut resources = Map::new();
    let sizes = [
        ("cpu", args.cpu.map(|cpu| json!(cpu))),
        ("memory", args.memory.map(|size| json!(size))),
        ("disk", args.disk.map(|size| json!(size))),
    ];
    for (key, value) in sizes {
        if let Some(value) = value {
            resources.insert(key.to_owned(), value);
        }
    }
    if !resources.is_empty() {
        set("resources", Value::Object(resources));
    }
    let pairs = |pairs: Vec<(String, String)>| {
        Value::Object(pairs.into_iter().map(|(key, value)| (key, json!(value))).collect())
    };
    if !args.env.is_empty() {
        set("env", pairs(args.env));
    }
    match (args.health_port, args.health_path) {
        (Some(port), Some(path)) => set("health", json!({"http": {"port": port, "path": path}})),
        (Some(port), None) => set("health", json!({"tcp": {"port": port}})),
        (None, _) => (),
    }
    if let Some(policy) = args.protect {
        set("protect", json!(policy));
    }
    if args.stopped {
        set("running", json!(false));
    }
    let mut metadata = json!({"name": args.name});
    if let Some(metadata) = metadata.as_object_mut()
        && !args.label.is_empty()
    {
        metadata.insert("labels".to_owned(), pairs(args.label));
    }
    json!({"apiVersion": API_VERSION, "kind": "Grain", "metadata": metadata, "spec": spec})
}

/// The network, and what may come in.
fn attached(network: &Name, addresses: &[IpAddr], exposed: &[Exposed]) -> (Value, Value) {
    let mut wish = Map::from_iter([("name".to_owned(), json!(network))]);
    for address in addresses {
        let key = if address.is_ipv4() { "address" } else { "address6" };
        wish.insert(key.to_owned(), json!(address));
    }
    let rules = exposed.iter().map(|exposed| match &exposed.ports {
        Ok(port) => json!({"port": port, "protocol": exposed.protocol}),
        Err(ports) => json!({"ports": ports, "protocol": exposed.protocol}),
    });
    (Value::Object(wish), rules.collect())
}

/// Starts, stops or restarts grains.
pub(crate) async fn power(
    ctx: &Ctx,
    verb: &'static str,
    args: &GrainsWaitArgs,
) -> Result<(), Failure> {
    let mut begun = Vec::new();
    for grain in &args.grains.grains {
        let answer = ctx.client.value(&Call::post(&["grains", grain.as_str(), verb])).await;
        begun.push(ctx.named::<OperationView>(answer, &[(Noun::Grain, grain)]).await?);
    }
    operation::finish(ctx, begun, args.wait).await
}

/// Removes grains: into the trash, or for good.
pub(crate) async fn rm(ctx: &Ctx, args: &RmArgs) -> Result<(), Failure> {
    for grain in &args.grains.grains {
        rm_one(ctx, args, grain).await?;
    }
    Ok(())
}

async fn rm_one(ctx: &Ctx, args: &RmArgs, grain: &Name) -> Result<(), Failure> {
    let mut key = grain.to_string();
    let mut read = ctx.client.send(&Call::get(&["grains", &key])).await;
    if args.purge && is_missing(&read) {
        // The trash is where a person who purges looks next.
        if let Some(id) = in_trash(ctx, grain).await? {
            key = id;
            read = ctx.client.send(&Call::get(&["grains", &key])).await;
        }
    }
    let read = ctx.named(read, &[(Noun::Grain, grain)]).await?;
    let view: GrainView = read.json()?;
    let name = &view.metadata.name;
    let mut call = Call::delete(&["grains", &key], read.etag.as_deref());
    if args.purge {
        call = call.query("purge", true);
    }
    if args.dry_run {
        let plan: DryRun = ctx.client.value(&call.query("dryRun", true)).await?;
        return show_plan(ctx, &plan);
    }
    if args.purge && !args.yes {
        let used = view
            .status
            .usage
            .map_or(String::new(), |used| format!(", {} of data", used.disk.rounded()));
        let copies = view.status.copies.len();
        let question = format!(
            "This removes {name} for good: its data{used}, its {copies} copies and all its snapshots."
        );
        confirm(ctx, &question, name.as_str())?;
    }
    let answer = ctx.client.send(&call).await;
    if args.purge {
        done_once(answer)?;
        ctx.print.note(&format!("{name} is removed for good"));
        return Ok(());
    }
    let reply = answer?;
    let trashed: GrainView = reply.json()?;
    let until = match trashed.status.trashed_until {
        Some(until) => format!("until {}", ctx.clock().moment(until)),
        None => "for 7 days".to_owned(),
    };
    ctx.print.note(&format!(
        "{name} is in the trash {until}; take it out again with: scrapctl undelete {name}"
    ));
    if ctx.for_people() { Ok(()) } else { show_one(ctx, &trashed) }
}

fn is_missing(read: &Result<Reply, Failure>) -> bool {
    matches!(read, Err(Failure::Problem { problem, .. }) if problem.code == Code::NotFound)
}

/// The id of the only grain in the trash that has this name.
async fn in_trash(ctx: &Ctx, name: &Name) -> Result<Option<String>, Failure> {
    let call = Call::get(&["grains"]).query("trashed", true);
    let trashed: Vec<GrainView> = ctx.client.value(&call).await?;
    let ids: Vec<String> = trashed
        .into_iter()
        .filter(|grain| grain.metadata.name == *name)
        .filter_map(|grain| grain.metadata.id.map(|id| id.to_string()))
        .collect();
    match ids.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        several => Err(Failure::Local {
            message: format!("several grains `{name}` are in the trash"),
            hint: Some(format!("say which by its id: {}", several.join(", "))),
        }),
    }
}

/// A removal whose first answer got lost finds nothing at the second attempt: it was done.
pub(crate) fn done_once(answer: Result<Reply, Failure>) -> Result<(), Failure> {
    match answer {
        Err(Failure::Problem { problem, repeated: true, .. }) if problem.code == Code::NotFound => {
            Ok(())
        }
        other => other.map(drop),
    }
}

fn show_one(ctx: &Ctx, view: &GrainView) -> Result<(), Failure> {
    let clock = ctx.clock();
    show::one(
        ctx,
        view,
        |theme| grains::info(view, &clock, theme),
        |theme| grains::grid(std::slice::from_ref(view), theme),
    )
}

/// Lets a person type a name before something is gone for good.
pub(crate) fn confirm(ctx: &Ctx, question: &str, name: &str) -> Result<(), Failure> {
    confirm_as(ctx, question, name, "--yes")
}

/// The same where scripts say something else than `--yes`.
pub(crate) fn confirm_as(
    ctx: &Ctx,
    question: &str,
    name: &str,
    scripts: &str,
) -> Result<(), Failure> {
    if !ctx.settings.environment.stdin_tty {
        return Err(Failure::Usage {
            message: "this needs a person to confirm it, and stdin is no terminal".to_owned(),
            hint: Some(format!("scripts say {scripts}")),
        });
    }
    ctx.print.ask(&format!("{question}\nType `{name}` to go on: "));
    let mut typed = String::new();
    std::io::stdin()
        .read_line(&mut typed)
        .map_err(|error| Failure::local(format!("cannot read from the terminal: {error}")))?;
    if typed.trim() == name {
        Ok(())
    } else {
        Err(Failure::local("not confirmed; nothing was changed"))
    }
}

/// Takes grains out of the trash.
pub(crate) async fn undelete(ctx: &Ctx, args: &crate::cli::GrainsArgs) -> Result<(), Failure> {
    for grain in &args.grains {
        let answer = ctx.client.value(&Call::post(&["grains", grain.as_str(), "undelete"])).await;
        let view: GrainView = ctx.named(answer, &[(Noun::Grain, grain)]).await?;
        let name = &view.metadata.name;
        ctx.print.note(&format!("{name} is back; it is {}", grains::state(view.status.state).0));
        if !ctx.for_people() {
            show_one(ctx, &view)?;
        }
    }
    Ok(())
}

/// Shows the nodes that could take a grain.
pub(crate) async fn place(ctx: &Ctx, args: &PlaceArgs) -> Result<(), Failure> {
    let view: PlacementView = match (&args.grain, &args.file) {
        (Some(grain), _) => {
            let read = ctx.read(Call::get(&["grains", grain.as_str(), "placement"])).await;
            ctx.named(read, &[(Noun::Grain, grain)]).await?
        }
        (None, Some(file)) => {
            let manifest = super::manifest::only_grain(file)?;
            ctx.client.value(&Call::post(&["place"]).json(&manifest)).await?
        }
        (None, None) => return Err(Failure::usage("neither a grain nor a file is named")),
    };
    if args.explain && ctx.for_people() {
        ctx.print.out(&placement::explain(&view, ctx.print.out_theme()))?;
    } else {
        let grid = |_| placement::grid(&view);
        match ctx.settings.output {
            Output::Json => show::json(ctx, &view)?,
            Output::Yaml => show::yaml(ctx, &view)?,
            Output::Table | Output::Wide | Output::Name | Output::Csv => {
                show::list(ctx, &view.nodes, grid, &args.list, "there are no nodes")?;
            }
        }
    }
    if view.nodes.iter().any(|node| node.score.is_some()) {
        return Ok(());
    }
    ctx.print.note("no node can take it; --explain says why");
    Err(Failure::Status(Exit::NoPlacement.code()))
}

/// Moves a grain.
pub(crate) async fn migrate(ctx: &Ctx, args: MigrateArgs) -> Result<(), Failure> {
    let grain = args.grain.grain;
    let body = MigrateBody { to: args.to.clone(), dry_run: args.dry_run };
    let call = Call::post(&["grains", grain.as_str(), "migrate"]).json(&body);
    let names = targets(&grain, args.to.as_ref());
    begin_or_plan(ctx, &call, args.dry_run, &names, args.wait).await
}

/// Starts a grain from a copy.
pub(crate) async fn failover(ctx: &Ctx, args: FailoverArgs) -> Result<(), Failure> {
    let grain = args.grain.grain;
    let body = FailoverBody {
        to: args.to.clone(),
        accept_loss: args.accept_loss,
        owner_is_off: args.owner_is_off,
        dry_run: args.dry_run,
    };
    let call = Call::post(&["grains", grain.as_str(), "failover"]).json(&body);
    let names = targets(&grain, args.to.as_ref());
    begin_or_plan(ctx, &call, args.dry_run, &names, args.wait).await
}

fn targets<'a>(grain: &'a Name, to: Option<&'a Name>) -> Vec<(Noun, &'a Name)> {
    let to = to.into_iter().map(|node| (Noun::Node, node));
    to.chain([(Noun::Grain, grain)]).rev().collect()
}

/// Begins an operation and sees it through; or only shows the plan.
pub(crate) async fn begin_or_plan(
    ctx: &Ctx,
    call: &Call,
    dry_run: bool,
    names: &[(Noun, &Name)],
    wait: crate::cli::WaitArgs,
) -> Result<(), Failure> {
    let reply = ctx.named(ctx.client.send(call).await, names).await?;
    if dry_run {
        return show_plan(ctx, &reply.json()?);
    }
    operation::finish(ctx, vec![reply.json()?], wait).await
}

/// Shows what would happen. A plan that would be refused is a failure.
pub(crate) fn show_plan(ctx: &Ctx, dry: &DryRun) -> Result<(), Failure> {
    let clock = ctx.clock();
    show::text(ctx, dry, |theme| plan::text(dry, &clock, theme))?;
    if dry.refused.is_some() {
        return Err(Failure::Status(Exit::Failed.code()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
