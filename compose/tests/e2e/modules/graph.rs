//! The modules of a crate, one a file, and which of them depend on which.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
};

use super::syntax::{Import, Path, tokens, use_tree, without_tests};

/// Source texts by path.
pub type Sources = BTreeMap<String, String>;

/// Longer chains of re-exports are not followed; one that leads to itself would never end.
const MAX_REEXPORTS: usize = 20;

/// Items that a module can define, by their keywords.
const ITEMS: [&str; 9] =
    ["fn", "struct", "enum", "trait", "type", "const", "static", "union", "macro_rules"];

#[derive(Default)]
struct Module {
    /// As paths show it; empty for the root.
    name: String,
    parent: usize,
    children: BTreeMap<String, usize>,
    defined: BTreeSet<String>,
    imported: BTreeMap<String, Path>,
    reexported: BTreeMap<String, Path>,
    reexported_globs: Vec<Path>,
    /// Every path that the module uses, in imports and in code.
    used: Vec<Path>,
}

/// Where a path leads.
#[derive(Clone, Copy)]
enum Target {
    Module(usize),
    ItemOf(usize),
}

/// A crate's modules; the first one is its root.
pub struct Crate(Vec<Module>);

impl Crate {
    /// Reads the modules that are reached from the root file.
    pub fn load(sources: &Sources, root: &str) -> Self {
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut krate = Self(Vec::new());
        krate.add(sources, root, folder, Module::default());
        krate
    }

    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds the module of a file and those that it declares, whose files are in `folder`.
    fn add(&mut self, sources: &Sources, file: &str, folder: &str, module: Module) -> usize {
        let at = self.0.len();
        let prefix = if at == 0 { String::new() } else { format!("{}::", module.name) };
        self.0.push(module);
        let text = sources.get(file).map(String::as_str).unwrap_or_default();
        let (tokens, mut rest) = (without_tests(&tokens(text)), Vec::new());
        let is = |i: usize, what: &str| tokens.get(i).is_some_and(|token| token == what);
        let mut i = 0;
        while let Some(token) = tokens.get(i) {
            if token == "mod" && is(i + 2, ";") {
                let name = tokens.get(i + 1).cloned().unwrap_or_default();
                let inner = format!("{folder}/{name}");
                let files = [format!("{inner}.rs"), format!("{inner}/mod.rs")];
                if let Some(file) = files.iter().find(|file| sources.contains_key(*file)) {
                    let child =
                        Module { name: format!("{prefix}{name}"), parent: at, ..Module::default() };
                    let child = self.add(sources, file, &inner, child);
                    self.0[at].children.insert(name, child);
                }
                i += 3;
            } else if token == "use" {
                let public = i > 0 && (is(i - 1, "pub") || is(i - 1, ")"));
                let mut imports = Vec::new();
                i = use_tree(&tokens, i + 1, &Path::new(), &mut imports);
                imports.into_iter().for_each(|import| self.0[at].import(import, public));
            } else {
                rest.push(token.clone());
                i += 1;
            }
        }
        self.0[at].read_code(&rest);
        at
    }

    /// The module that a path of module `from` leads to; `None` if it is another crate's.
    fn resolve(&self, from: usize, path: &[String], depth: usize) -> Option<Target> {
        let (first, mut rest) = path.split_first()?;
        if depth > MAX_REEXPORTS {
            return None;
        }
        let module = &self.0[from];
        let mut at = match first.as_str() {
            "crate" => 0,
            "self" => from,
            "super" => {
                let mut up = module.parent;
                while let Some(("super", behind)) = rest.split_first().map(|(s, b)| (s.as_str(), b))
                {
                    (up, rest) = (self.0[up].parent, behind);
                }
                up
            }
            name if module.children.contains_key(name) => module.children[name],
            name => {
                let imported = module.imported.get(name)?;
                if imported.first() == Some(first) && imported.len() == 1 {
                    return None;
                }
                match self.resolve(from, imported, depth + 1)? {
                    Target::Module(at) => at,
                    item @ Target::ItemOf(_) => return Some(item),
                }
            }
        };
        while let Some((name, behind)) = rest.split_first() {
            match self.member(at, name, depth)? {
                Target::Module(next) => (at, rest) = (next, behind),
                item @ Target::ItemOf(_) => return Some(item),
            }
        }
        Some(Target::Module(at))
    }

    /// What a name means in a module: a module within it, something it re-exports, or its own item.
    fn member(&self, at: usize, name: &str, depth: usize) -> Option<Target> {
        let module = &self.0[at];
        if let Some(child) = module.children.get(name) {
            return Some(Target::Module(*child));
        }
        if let Some(path) = module.reexported.get(name) {
            return self.resolve(at, path, depth + 1);
        }
        if name == "*" || module.defined.contains(name) {
            return Some(Target::ItemOf(at));
        }
        for glob in &module.reexported_globs {
            if let Some(Target::Module(of)) = self.resolve(at, glob, depth + 1)
                && self.0[of].defined.contains(name)
            {
                return Some(Target::ItemOf(of));
            }
        }
        match module.imported.get(name) {
            Some(path) => self.resolve(at, path, depth + 1),
            None => Some(Target::ItemOf(at)),
        }
    }

    /// For each module the others that it depends on, each with one path that leads there.
    fn dependencies(&self) -> Vec<BTreeMap<usize, String>> {
        let of = |(from, module): (usize, &Module)| {
            let paths = module.used.iter();
            let edges = paths.filter_map(|path| match self.resolve(from, path, 0)? {
                Target::ItemOf(to) if to != from => Some((to, path.join("::"))),
                // To name a module is no dependency; what is used of it is a path of its own.
                Target::ItemOf(_) | Target::Module(_) => None,
            });
            edges.collect()
        };
        self.0.iter().enumerate().map(of).collect()
    }

    /// The shortest circle of each group of modules that depend on one another.
    pub fn circles(&self) -> Vec<String> {
        let graph = self.dependencies();
        let back: Vec<Option<Vec<usize>>> = (0..graph.len()).map(|n| way_back(&graph, n)).collect();
        let (mut seen, mut circles) = (BTreeSet::new(), Vec::new());
        for start in 0..graph.len() {
            if back[start].is_none() || seen.contains(&start) {
                continue;
            }
            let there = reached(&graph, start);
            let group: Vec<usize> =
                there.into_iter().filter(|n| reached(&graph, *n).contains(&start)).collect();
            let shortest = group.iter().filter_map(|n| back[*n].as_ref()).min_by_key(|c| c.len());
            seen.extend(group.iter().copied());
            circles.extend(shortest.map(|circle| self.shown(&graph, circle, group.len())));
        }
        circles
    }

    fn shown(&self, graph: &[BTreeMap<usize, String>], circle: &[usize], of: usize) -> String {
        let name = |n: usize| if n == 0 { "the crate's root" } else { self.0[n].name.as_str() };
        let mut text = circle.first().map(|n| name(*n).to_owned()).unwrap_or_default();
        for pair in circle.windows(2) {
            let _ = write!(text, " -> {} (by `{}`)", name(pair[1]), graph[pair[0]][&pair[1]]);
        }
        let _ = write!(text, "; {of} modules depend on one another here");
        text
    }
}

impl Module {
    fn import(&mut self, import: Import, public: bool) {
        let Import { path, name } = import;
        if public && name == "*" {
            self.reexported_globs.extend(path.split_last().map(|(_, module)| module.to_vec()));
            return;
        }
        if public {
            self.reexported.insert(name.clone(), path.clone());
        } else {
            self.used.push(path.clone());
        }
        self.imported.insert(name, path);
    }

    /// Notes the items and the paths in the code behind the imports.
    fn read_code(&mut self, tokens: &[String]) {
        let is = |i: usize, what: &str| tokens.get(i).is_some_and(|token| token == what);
        let word = |i: usize| {
            tokens.get(i).filter(|token| token.starts_with(|c: char| c.is_alphabetic() || c == '_'))
        };
        for (i, token) in tokens.iter().enumerate() {
            if ITEMS.contains(&token.as_str()) {
                let name = if is(i + 1, "!") || is(i + 1, "mut") { i + 2 } else { i + 1 };
                self.defined.extend(tokens.get(name).cloned());
            }
            // A re-export alone is no dependency, but a use of what it names is.
            let reexported = self.reexported.get(token).cloned();
            self.used.extend(reexported);
            if word(i).is_some() && is(i + 1, "::") && !(i > 0 && is(i - 1, "::")) {
                let (mut path, mut next) = (vec![token.clone()], i + 2);
                while let Some(name) = word(next) {
                    path.push(name.clone());
                    next = if is(next + 1, "::") { next + 2 } else { break };
                }
                self.used.push(path);
            }
        }
    }
}

/// Every module that can be reached from one.
fn reached(graph: &[BTreeMap<usize, String>], from: usize) -> BTreeSet<usize> {
    let (mut seen, mut open) = (BTreeSet::from([from]), vec![from]);
    while let Some(at) = open.pop() {
        open.extend(graph[at].keys().copied().filter(|next| seen.insert(*next)));
    }
    seen
}

/// The shortest way from a module back to itself.
fn way_back(graph: &[BTreeMap<usize, String>], start: usize) -> Option<Vec<usize>> {
    let (mut before, mut open) = (BTreeMap::new(), VecDeque::from([start]));
    while let Some(at) = open.pop_front() {
        for next in graph[at].keys().copied() {
            if before.contains_key(&next) {
                continue;
            }
            before.insert(next, at);
            if next == start {
                let mut way = vec![start, at];
                while at_start(&way) != start {
                    way.push(before[&at_start(&way)]);
                }
                way.reverse();
                return Some(way);
            }
            open.push_back(next);
        }
    }
    None
}

fn at_start(way: &[usize]) -> usize {
    way.last().copied().unwrap_or_default()
}
