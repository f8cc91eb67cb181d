//! Both fronts of the server, on one configuration: `edeploy-server` and `edeploy-cgi` behind a
//! real web server. No machine boots here.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use lab::books::Books;
use lab::needs::{Need, present};
use lab::process::{Lifetime, Service};
use lab::services::{free_port, lighttpd};
use lab::site::{Overrides, Site};
use lab::upload::{Answer, facts_of, upload};
use specs::wire::Reply;

use crate::{file, on_a_site};

const MACHINES: u32 = 50;

/// Starts lighttpd over the site's configuration.
fn start_cgi(site: &Site) -> Result<(Service, u16)> {
    let port = free_port()?;
    let (cgi, configuration) = (&site.artifacts.cgi, site.configuration());
    let service = lighttpd(&site.directory, cgi, &configuration, port, Lifetime::Scoped)?;
    Ok((service, port))
}

fn hostname(answer: &Answer) -> Result<Option<String>> {
    Ok(match answer.reply()? {
        Reply::Plan { plan, .. } => Some(plan.hostname.clone()),
        Reply::Installed { hostname, .. } => Some(hostname),
        Reply::Refused(_) => None,
    })
}

#[test]
fn the_same_upload_gets_the_same_answer_from_both() {
    if !present(&[Need::Program("lighttpd")]) {
        return;
    }
    on_a_site("fronts", &Overrides::default(), |site| {
        let _server = site.start_server()?;
        let (_cgi, cgi) = start_cgi(site)?;
        let facts = facts_of(1);
        let by_server = upload(site.ports.http, &facts)?;
        let by_cgi = upload(cgi, &facts)?;
        ensure!(by_server == by_cgi, "{by_server:?}\nis not\n{by_cgi:?}");
        ensure!(hostname(&by_cgi)?.as_deref() == Some("host03"), "{by_cgi:?}");

        let wrong = r#"[["system", "product", "serial", "LAB-2"]]"#;
        let by_server = upload(site.ports.http, wrong)?;
        ensure!(by_server == upload(cgi, wrong)?, "the refusals differ");
        ensure!(by_server.status == 422, "{by_server:?}");
        Ok(())
    });
}

#[test]
fn fifty_machines_and_twenty_entries() {
    if !present(&[Need::Program("lighttpd")]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let cmdb = r#"generate({"ip": "10.0.2.101-120", "hostname": "host01-20",
        "netmask": "255.255.255.0", "gateway": "10.0.2.2"})"#;
    let cmdb = Some(file(scratch.path(), "vm.cmdb", cmdb));
    on_a_site("fifty", &Overrides { cmdb, ..Overrides::default() }, |site| {
        std::fs::write(site.config("state"), "[(\"vm\", 50)]\n")?;
        let _server = site.start_server()?;
        let (_cgi, cgi) = start_cgi(site)?;
        let ports = [site.ports.http, cgi];
        let answers: Vec<Answer> = std::thread::scope(|scope| -> Result<Vec<Answer>> {
            let uploads: Vec<_> = (1..=MACHINES)
                .map(|number| {
                    let port = ports[number as usize % ports.len()];
                    scope.spawn(move || upload(port, &facts_of(number)))
                })
                .collect();
            let answers = uploads.into_iter().map(|upload| upload.join().unwrap());
            answers.collect()
        })?;
        let mut names = BTreeSet::new();
        let mut refusals = 0;
        for answer in &answers {
            match hostname(answer)? {
                Some(name) => ensure!(names.insert(name.clone()), "{name} was handed out twice"),
                None => {
                    refusals += 1;
                    ensure!(answer.status == 409, "{answer:?}");
                }
            }
        }
        ensure!(names.len() == 20 && refusals == 30, "{} plans, {refusals} refusals", names.len());
        let books = Books::read(site).context("after fifty uploads")?;
        ensure!(books.used().len() == 20 && books.left == Some(30), "{books:?}");
        Ok(())
    });
}
