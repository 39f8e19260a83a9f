// Fleets to begin with. Each works as it is, on any machine with a POSIX shell.

export const EXAMPLES = [
  {
    title: "Run a script",
    text: "One program that gets whatever is sent.",
    yaml: `name: run-a-script
vessels:
  script:
    run: |
      echo "started by: $BOATHOOK_TRIGGER"
      # Standard input is the body of the request, byte for byte.
      body=$(cat)
      echo "received: \${body:-nothing}"
`,
  },
  {
    title: "Deploy on GitHub push",
    text: "Deploys pushes to main, checks the result, and tells somebody when it fails.",
    yaml: `name: deploy-on-push
vessels:
  deploy:
    environment: {BRANCH: main}
    run: |
      # Without a webhook (Run now) there is no push to look at: deploy.
      push=\${SHIPYARD_WEBHOOK_BODY_FILE:-}
      if [ -n "$push" ] && ! grep -q "\\"ref\\": *\\"refs/heads/$BRANCH\\"" "$push"; then
        echo "not a push to $BRANCH: nothing to do"
        exit 0
      fi
      echo "deploying $BRANCH"
      # Your deployment goes here:
      #   cd /srv/site && git pull --ff-only && make
    guardrails: {retry_count: 1, retry_wait: 10s, runtime_cutoff: 15m}
  check:
    run: |
      # Is it really live? For example:
      #   curl --fail --silent https://www.example.com/ > /dev/null
      echo "looks good"
  tell:
    run: |
      # Mail or message somebody here.
      echo "the deployment failed" >&2
connections:
  deploy: {check: SUCCESS, tell: ERRORED}
concurrency: 1
`,
  },
  {
    title: "Back up on request",
    text: "Packs a directory, checks the archive, and keeps the latest seven.",
    yaml: `name: back-up
vessels:
  pack:
    environment:
      SOURCE: /etc/hosts
      TARGET: /tmp/boathook-backups
    run: |
      mkdir -p "$TARGET"
      archive="$TARGET/$(date -u +%Y%m%d-%H%M%S).tar.gz"
      tar -czf "$archive" "$SOURCE"
      # The vessels of a run share one directory.
      echo "$archive" > archive
      ls -l "$archive"
  verify:
    run: |
      read -r archive < archive
      tar -tzf "$archive"
  prune:
    run: |
      read -r archive < archive
      ls -t "$(dirname "$archive")"/*.tar.gz | tail -n +8 | while read -r old; do
        echo "removing $old"
        rm -- "$old"
      done
      echo "kept the latest seven at most"
connections:
  pack: {verify: SUCCESS}
  verify: {prune: SUCCESS}
concurrency: 1
`,
  },
];
