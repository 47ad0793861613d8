//! One function per verb. Here is what they share: the cluster, the printer, and how an answer is written.

pub(crate) mod api;
pub(crate) mod cluster;
mod context;
pub(crate) mod event;
pub(crate) mod exec;
pub(crate) mod files;
pub(crate) mod grain;
pub(crate) mod inside;
pub(crate) mod manifest;
pub(crate) mod names;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod object;
pub(crate) mod operation;
pub(crate) mod orphan;
pub(crate) mod policy;
pub(crate) mod shell;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod template;
pub(crate) mod terminal;
pub(crate) mod wait;

use std::cell::Cell;
use std::time::Duration;

use scrap_schema::problem::Exit;
use scrap_schema::time::Timestamp;
use serde::de::DeserializeOwned;

use crate::cli::{Command, Output};
use crate::client::call::Call;
use crate::client::{Client, shown};
use crate::failure::Failure;
use crate::print::Print;
use crate::render::text::{Clock, span};
use crate::settings::Settings;

/// How long people wait for a leader before they are shown what a node knows by itself.
const PATIENCE_OF_PEOPLE: Duration = Duration::from_secs(5);
/// How long one node may look for a leader until the next one is asked.
const ANSWER_FOR_PEOPLE: Duration = Duration::from_secs(3);

/// What every verb has.
pub(crate) struct Ctx {
    /// What was said.
    pub(crate) settings: Settings,
    /// The cluster.
    pub(crate) client: Client,
    /// The printer.
    pub(crate) print: Print,
    /// Where the reader is.
    zone: jiff::tz::TimeZone,
    /// Whether something old was shown because there was no leader.
    old: Cell<bool>,
}

impl Ctx {
    /// Puts it together.
    pub(crate) fn new(settings: Settings, client: Client, print: Print) -> Self {
        let zone = jiff::tz::TimeZone::system();
        Self { settings, client, print, zone, old: Cell::new(false) }
    }

    /// The reader's present.
    pub(crate) fn clock(&self) -> Clock {
        let now = Timestamp(jiff::Timestamp::now().as_millisecond());
        Clock { now, zone: self.zone.clone() }
    }

    /// Whether the answer is for people.
    pub(crate) fn for_people(&self) -> bool {
        match self.settings.output {
            Output::Table | Output::Wide => true,
            Output::Json | Output::Yaml | Output::Name | Output::Csv => false,
        }
    }

    /// Whether what was read is old, because the cluster does not answer.
    pub(crate) fn is_old(&self) -> bool {
        self.old.get()
    }

    /// Reads. People without a leader are shown what a node knows by itself, with its age; programs get an error.
    pub(crate) async fn read<T: DeserializeOwned>(&self, call: Call) -> Result<T, Failure> {
        if self.settings.stale || self.old.get() {
            return self.read_stale(call).await;
        }
        if !self.for_people() {
            return self.client.value(&call).await;
        }
        let asked = call.clone().patient(PATIENCE_OF_PEOPLE).answered_within(ANSWER_FOR_PEOPLE);
        match self.client.value(&asked).await {
            Err(failure @ Failure::Unreachable { .. }) => match self.read_stale(call).await {
                Ok(value) => {
                    self.old.set(true);
                    Ok(value)
                }
                // The first failure says what is wrong with the cluster.
                Err(_) => Err(failure),
            },
            result => result,
        }
    }

    async fn read_stale<T: DeserializeOwned>(&self, call: Call) -> Result<T, Failure> {
        let reply = self.client.send(&call.query("stale", true)).await?;
        let value = reply.json()?;
        if !self.old.get() {
            let server = shown(&reply.server);
            let age = reply.age_ms.map_or("an unknown time".to_owned(), span);
            let why = if self.settings.stale { "" } else { "the cluster does not answer: " };
            self.print.note(&format!("{why}this is what {server} knew {age} ago"));
        }
        Ok(value)
    }
}

/// Does what was asked.
pub(crate) async fn run(ctx: &Ctx, command: Command) -> Result<(), Failure> {
    dispatch(ctx, command).await?;
    // What was shown is old: a script must not take it for the truth.
    if ctx.old.get() { Err(Failure::Status(Exit::Unreachable.code())) } else { Ok(()) }
}

async fn dispatch(ctx: &Ctx, command: Command) -> Result<(), Failure> {
    match command {
        Command::Status => status::status(ctx).await,
        Command::Ls(args) => grain::ls(ctx, &args).await,
        Command::Info(args) => grain::info(ctx, &args.grain).await,
        Command::Launch(args) => grain::launch(ctx, args).await,
        Command::Apply(args) => manifest::apply(ctx, &args).await,
        Command::Diff(args) => manifest::diff(ctx, &args).await,
        Command::Get(args) => object::get(ctx, &args).await,
        Command::Edit(args) => object::edit(ctx, &args).await,
        Command::Explain(args) => object::explain(ctx, &args.field),
        Command::Rm(args) => grain::rm(ctx, &args).await,
        Command::Undelete(args) => grain::undelete(ctx, &args).await,
        Command::Start(args) => grain::power(ctx, "start", &args).await,
        Command::Stop(args) => grain::power(ctx, "stop", &args).await,
        Command::Restart(args) => grain::power(ctx, "restart", &args).await,
        Command::Logs(args) => inside::logs(ctx, &args).await,
        Command::Services(args) => inside::services(ctx, &args).await,
        Command::Exec(args) => exec::exec(ctx, args).await,
        Command::Shell(args) => exec::shell(ctx, args).await,
        Command::Console(args) => exec::console(ctx, args).await,
        Command::Push(args) => files::push(ctx, args).await,
        Command::Pull(args) => files::pull(ctx, args).await,
        Command::Place(args) => grain::place(ctx, &args).await,
        Command::Migrate(args) => grain::migrate(ctx, args).await,
        Command::Failover(args) => grain::failover(ctx, args).await,
        Command::Snapshot(args) => inside::snapshot(ctx, args).await,
        Command::Restore(args) => inside::restore(ctx, args).await,
        Command::Clone(args) => inside::clone(ctx, args).await,
        Command::Cluster(args) => cluster::run(ctx, args.command).await,
        Command::Node(command) => node::run(ctx, command).await,
        Command::Policy(command) => policy::run(ctx, command).await,
        Command::Template(command) => template::run(ctx, command).await,
        Command::Network(command) => network::run(ctx, command).await,
        Command::Op(command) => operation::run(ctx, command).await,
        Command::Orphan(command) => orphan::run(ctx, command).await,
        Command::Events(args) => event::events(ctx, &args).await,
        Command::Wait(args) => wait::wait(ctx, &args).await,
        Command::Context(command) => context::run(ctx, command),
        Command::Api(args) => api::api(ctx, args).await,
        Command::Completion(args) => shell::completion(&ctx.print, args.shell),
        Command::Man(args) => shell::man(&args.dir),
    }
}
