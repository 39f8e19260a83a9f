//! Projects on the command line.

use serde_json::json;

use crate::harness::Server;
use crate::harness::server::finish;

#[test]
fn projects_are_made_shown_changed_and_deleted() {
    let server = Server::start();
    let api = server.api();
    let cli = |arguments: &[&str]| finish(server.cli(arguments));
    let made = cli(&["project", "create", "web", "--time-zone", "Europe/Berlin"]);
    assert_eq!((made.0, made.1.as_str()), (0, "created  web  Europe/Berlin\n"), "{}", made.2);
    api.apply(&json!({"name": "site", "project": "web", "vessels": {"v": {"run": "echo $TZ"}}}));
    let (code, listed, _) = cli(&["project", "list"]);
    assert!(code == 0 && listed.contains("web      Europe/Berlin  1 "), "{listed}");
    let (code, shown, _) = cli(&["project", "show", "web"]);
    assert!(code == 0 && shown.contains("fleet       site"), "{shown}");

    let (code, _, stderr) = cli(&["project", "delete", "web"]);
    assert!(code == 1 && stderr.contains("has 1 fleets"), "{stderr}");
    let (code, changed, _) =
        cli(&["project", "set", "web", "--name", "pages", "--time-zone", "UTC"]);
    assert_eq!((code, changed.as_str()), (0, "changed  pages  UTC\n"));
    let fleet = api.get("/api/v1/fleets").data()[0].clone();
    assert_eq!(fleet["project_name"], "pages");
    let run = api.wait_ended(&api.start(fleet["id"].as_str().unwrap()));
    assert_eq!(api.output(&run, "v"), "UTC\n");
    assert_eq!(cli(&["fleet", "delete", "pages/site"]).0, 0);
    let (code, deleted, _) = cli(&["project", "delete", "pages"]);
    assert_eq!((code, deleted.as_str()), (0, "deleted  pages\n"));
    for (arguments, word) in [
        (&["project", "show", "pages"][..], "project list"),
        (&["project", "create", "default"], "already"),
        (&["project", "create", "x", "--time-zone", "Nowhere/City"], "Europe/Berlin"),
        (&["project", "create", "a/b"], "/"),
    ] {
        let (code, stdout, stderr) = cli(arguments);
        assert_eq!((code, stdout.as_str()), (1, ""), "{arguments:?}");
        assert!(stderr.contains(word), "{arguments:?}: {stderr}");
    }
    let (code, listed, _) = cli(&["project", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((code, listed.as_array().unwrap().len()), (0, 1));
}
