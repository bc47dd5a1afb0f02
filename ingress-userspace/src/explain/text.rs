//! An explanation for people: a word for each step, and what came of it.

use super::{Candidate, Explanation};
use crate::problem::Problem;

impl Explanation {
    /// Adds what is wrong with the Ingresses of the candidates.
    pub fn add_problems(&mut self, problems: &[Problem]) {
        let told = self.problems.get_or_insert_default();
        let sources: Vec<&str> = self.candidates.iter().map(|candidate| candidate.source.as_str()).collect();
        for problem in problems {
            let object = problem.object.to_string();
            if sources.contains(&object.as_str()) {
                let Problem { field, message, code, .. } = problem;
                told.push(format!("{object} {field}: {message} [{}]", code.name()));
            }
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut lines = vec![("request", self.request.clone())];
        let mut add = |name, text: Option<&String>| lines.extend(text.map(|text| (name, text.clone())));
        add("certificate", self.certificate.as_ref());
        add("host", self.host.as_ref());
        add("path", self.path.as_ref());
        for (number, candidate) in self.candidates.iter().enumerate() {
            let Candidate { matches, source, action } = candidate;
            let serves = if number == 0 { ", takes it" } else { "" };
            add("candidate", Some(&format!("{}. {matches} -> {action}  ({source}{serves})", number + 1)));
        }
        if self.candidates.is_empty() && self.path.is_some() {
            add("candidate", Some(&"none: no route takes this host and path".to_owned()));
        }
        self.settings.iter().for_each(|line| add("setting", Some(line)));
        self.not_asked.iter().for_each(|line| add("not asked", Some(line)));
        match &self.problems {
            Some(problems) => problems.iter().for_each(|line| add("problem", Some(line))),
            None => add(
                "problem",
                Some(
                    &"not known to this process, which has no objects; the --admin-socket of the agent knows"
                        .to_owned(),
                ),
            ),
        }
        let mut outcome = self.outcome.iter();
        match self.status {
            Some(status) => add("answer", Some(&status.to_string())),
            None => add("answer", outcome.next()),
        }
        outcome.for_each(|line| add("", Some(line)));
        add("upstream", self.upstream_request.as_ref());
        self.upstream_headers.iter().for_each(|line| add("", Some(line)));
        add("backend", self.backend.as_ref());
        self.endpoints.iter().for_each(|line| add("endpoint", Some(line)));
        lines.iter().map(|(name, text)| format!("{name:<12} {text}\n")).collect()
    }
}
