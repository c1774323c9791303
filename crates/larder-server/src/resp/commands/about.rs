//! What commands there are: `COMMAND` and its subcommands, from the table.

use super::{Call, Done, Refusal, SYNTAX, look_up};
use crate::resp::frame::OwnedArgs;
use crate::resp::glob;
use crate::resp::reply::Replies;
use crate::resp::table::{COMMANDS, Command, find, find_sub};

/// `COMMAND`
pub fn command(call: &mut Call<'_>) -> Done {
    call.out.array(COMMANDS.len());
    COMMANDS.iter().for_each(|command| tell(call.out, command));
    Ok(())
}

/// `COMMAND COUNT`
pub fn count(call: &mut Call<'_>) -> Done {
    call.out.count(COMMANDS.len());
    Ok(())
}

/// `COMMAND INFO [name ...]`
pub fn info(call: &mut Call<'_>) -> Done {
    if call.args.len() == 2 {
        return command(call);
    }
    let names = call.args.skip(2);
    call.out.array(names.len());
    for name in names.iter() {
        match by_name(name) {
            Some(command) => tell(call.out, command),
            None => call.out.null_array(),
        }
    }
    Ok(())
}

/// `COMMAND LIST [FILTERBY PATTERN pattern | ACLCAT category | MODULE name]`
pub fn list(call: &mut Call<'_>) -> Done {
    let mut names: Vec<&str> =
        COMMANDS.iter().flat_map(|command| std::iter::once(command).chain(command.subcommands)).map(|c| c.name).collect();
    if call.args.len() == 5 && call.is(2, "FILTERBY") {
        let filter = call.args.at(4);
        if call.is(3, "PATTERN") {
            names.retain(|name| glob::matches(filter, name.as_bytes()));
        } else if call.is(3, "ACLCAT") {
            names.retain(|name| {
                by_name(name.as_bytes())
                    .is_some_and(|command| command.categories().iter().any(|category| category.as_bytes()[1..] == *filter))
            });
        } else if call.is(3, "MODULE") {
            names.clear();
        } else {
            return Err(SYNTAX);
        }
    } else if call.args.len() != 2 {
        return Err(SYNTAX);
    }
    call.out.array(names.len());
    names.iter().for_each(|name| call.out.bulk(name.as_bytes()));
    Ok(())
}

/// `COMMAND DOCS [name ...]`
pub fn docs(call: &mut Call<'_>) -> Done {
    let named: Vec<&'static Command> =
        if call.args.len() == 2 { COMMANDS.iter().collect() } else { call.args.skip(2).iter().filter_map(by_name).collect() };
    call.out.map(named.len());
    named.iter().for_each(|command| document(call.out, command));
    Ok(())
}

/// `COMMAND GETKEYS command [arg ...]`
pub fn getkeys(call: &mut Call<'_>) -> Done {
    let words = OwnedArgs::of(call.args.skip(2));
    let words = words.args();
    let (_, command) = look_up(words).map_err(|refusal| {
        let is_unknown = refusal.0.starts_with(b"ERR unknown");
        Refusal::new(if is_unknown { "ERR Invalid command specified" } else { "ERR Invalid number of arguments specified for command" })
    })?;
    let places: Vec<usize> = command.keys.places(words.len()).collect();
    if places.is_empty() {
        return Err(Refusal::new("ERR The command has no key arguments"));
    }
    call.out.array(places.len());
    places.iter().for_each(|place| call.out.bulk(words.at(*place)));
    Ok(())
}

/// By its name, or by that of a family and the subcommand's, joined by `|`.
fn by_name(name: &[u8]) -> Option<&'static Command> {
    match name.iter().position(|byte| *byte == b'|') {
        Some(at) => find_sub(find(&name[..at])?.1, &name[at + 1..]),
        None => find(name).map(|(_, command)| command),
    }
}

/// The ten things that Redis tells of a command.
fn tell(out: &mut Replies, command: &Command) {
    out.array(10);
    out.bulk(command.name.as_bytes());
    out.integer(command.arity.into());
    let flags: Vec<&str> = command.flags.iter().filter_map(|flag| flag.name()).collect();
    out.set(flags.len());
    flags.iter().for_each(|flag| out.simple(flag));
    [command.keys.first, command.keys.last, command.keys.step].iter().for_each(|number| out.integer((*number).into()));
    let categories = command.categories();
    out.set(categories.len());
    categories.iter().for_each(|category| out.simple(category));
    out.array(0);
    out.array(0);
    out.array(command.subcommands.len());
    command.subcommands.iter().for_each(|sub| tell(out, sub));
}

fn document(out: &mut Replies, command: &Command) {
    out.bulk(command.name.as_bytes());
    out.map(if command.subcommands.is_empty() { 3 } else { 4 });
    for (name, text) in [("summary", command.summary), ("since", command.since), ("group", command.group.name())] {
        out.bulk(name.as_bytes());
        out.bulk(text.as_bytes());
    }
    if !command.subcommands.is_empty() {
        out.bulk(b"subcommands");
        out.map(command.subcommands.len());
        command.subcommands.iter().for_each(|sub| document(out, sub));
    }
}
