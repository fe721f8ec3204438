"use strict"

const GENERAL = `alien: keeps the daemons of an alien.ts running

  alien preflight          check the stack; touches nothing
  alien plan               show what deploy would change, and why
  alien deploy             make what runs like the stack says
  alien status             how every resource is
  alien logs [ID…]         what daemons printed; all of them when none is named
  alien restart ID         stop a daemon and start it again
  alien rollback ID        bring back the version that ran before
  alien exec ID -- CMD…    run a program beside a daemon, in its container
  alien commands invoke ID NAME   call a command of a daemon; also submit, get, list, cancel, watch
  alien manager install    put the manager of commands into a cluster; also image push, uninstall
  alien token create       let somebody send or take commands; also list, revoke
  alien vault set ID KEY   put a value into a vault; also list, remove
  alien render             print the manifests, for whoever applies them (kubernetes)
  alien images             the images on this machine, how large they are and who uses them
  alien prune              remove what no daemon uses: images, former tops, programs of other versions
  alien doctor             look at this machine and at what keeps its daemons alive; mend what can be
  alien startup            print or install the systemd unit that brings daemons back with the machine
  alien destroy            stop and remove everything; keeps data unless --data is given
  alien version            version of this package
  alien help [COMMAND]     this, or more about a command

Options of every command
  -f, --file PATH          stack file; default: alien.ts, .mts, .js or .mjs in this folder
  -p, --platform NAME      default: local
  -n, --name NAME          deployment; default: the stack's id
      --json               one JSON document on stdout (logs, --watch: one a line)
      --timeout SECONDS    give up, cleanly; default: 600
local:
      --state-dir DIR      where everything is kept (ALIEN_STATE_DIR; default: $XDG_STATE_HOME/alien,
                           ~/.local/state/alien, as root /var/lib/alien)
      --mirror HOST=URL    ask URL before the registry HOST; repeatable, asked in this order
                           (ALIEN_REGISTRY_MIRRORS=HOST=URL,…)
      --downloads N        layers that are downloaded at once, over all images; default: 4
      --store-limit SIZE   fetch nothing that makes the images on disk larger: 20Gi, 500M; default: no limit
      --pull WHEN          ask the registry: always, missing (only for what is not here) or
                           auto (always for the tag "latest", else missing); default: auto
      --runtime NAME       what new deployments run under: process, engine (Docker or Podman, found by DOCKER_HOST) or
                           auto (process, else engine where this machine makes no sandboxes; ALIEN_RUNTIME)
kubernetes:
      --kubeconfig PATH    instead of KUBECONFIG, ~/.kube/config or, in a pod, its own account
      --context NAME       instead of the current one
      --namespace NAME     instead of the context's; --create-namespace makes a missing one
      --registry HOST=HOST pull the images of the one from the other; repeatable
      --docker-config PATH the cluster pulls with the credentials in it

Exit codes: 0 done, 1 failed, 2 the command line is wrong, 130 cancelled with Ctrl-C.`

const SECRETS = `
      --secret ID.NAME[=VAR]     environment NAME of daemon ID is the value of VAR (default: NAME) in this
                                 environment; shown nowhere, and kept by later deploys that leave it out
      --secret-file ID.NAME=PATH the same with a file's contents, less one line end`

const ELSEWHERE = `
      --manager URL              take commands from a manager that runs elsewhere; its administrator's token is in
                                 ALIEN_COMMANDS_ADMIN_TOKEN, or in a file that --token-file names
      --manager-ca-file PATH     certificates that its own is to be signed with; default: ALIEN_COMMANDS_CA_FILE, else
                                 the system's`

const MORE = {
  preflight: "alien preflight [options]\n\nRuns every check that needs nothing but the stack. Exits 1 if one fails.",
  plan: `alien plan [options]\n\nShows what deploy would do, field by field: old → new, secrets masked. Changes nothing.\n${SECRETS}${ELSEWHERE}`,
  deploy: `alien deploy [options]\n\nFetches images, starts what is new, updates what differs, removes what the stack no longer has, and waits\nuntil everything is up. A new version that does not stay up is taken back. Deploying twice changes nothing.\n${SECRETS}
      --binding ID=JSON          where a linked resource is; --bindings FILE for several (kubernetes)
      --on-failure WHAT          of an update that does not come up: rollback or keep; default: rollback (kubernetes)
      --force-conflicts          take over fields that another manager applies (kubernetes)${ELSEWHERE}`,
  status: `alien status [options]

Shows every resource of the deployment as it is at this moment. CPU is measured for a tenth of a second.

      --watch              go on with every change, until it is gone or Ctrl-C`,
  logs: `alien logs [ID…] [options]

      --tail N             only the last N lines of each
      --since TIME         only since then: 10s, 5m, 2h, 1d ago, or an RFC 3339 time
      --until TIME         only up to then, as --since
      --follow             go on with what comes, until Ctrl-C
      --previous           of the run before the present one (kubernetes)
  -t, --timestamps         with the time of each line`,
  restart: "alien restart ID [options]\n\nStops the daemon (its stop signal, then its grace period), starts it again and waits until it is up.",
  rollback: `alien rollback ID [options]\n\nBrings back the version of the daemon that ran before the present one, and waits until it is up.\n${ELSEWHERE}`,
  exec: `alien exec ID [options] -- COMMAND…

Runs a program in the daemon's container; its exit code is the program's, 128 and more for a signal.

  -i, --interactive        with this command's input
  -t, --tty                with a terminal`,
  render: `alien render --platform kubernetes [options]

Prints the manifests as YAML: the same stack gives the same bytes. Secrets are referred to, never printed.

      --secret ID.NAME     environment NAME of daemon ID comes from a Secret; repeatable
      --rbac               print the least Role that a deploy needs instead; of a stack that takes commands, where there is one`,
  vault: `alien vault set ID KEY [options]      put a value into vault ID, in place of the one that was there
alien vault list ID                     the names of its values
alien vault remove ID KEY               take one away

Daemons that are linked to the vault find a file KEY in the folder that its binding names. It may be filled before the
first deploy. The value comes from standard input, less one line end, or:
      --from-file PATH     from a file, likewise
      --from-env NAME      from a variable of this environment`,
  images: `alien images [options]

Lists the images that are kept on this machine, with the bytes that their layers have on disk. Layers that several
images share count in each of them, and once in the total.`,
  prune: `alien prune [options]

Removes images that no daemon of any deployment here runs or may go back to, downloads that were broken off, writable
tops of former versions, and programs of other versions of this package. Safe beside deploys: what they use stays.

      --dry-run            only say what would be removed`,
  doctor: `alien doctor [options]

Checks whether this machine can do all that daemons may need, whether each is kept and up, and whether they come back after
a reboot. A tree that is gone, stopped or stuck is started again, and what killed calls left half-made is removed. Exits 1 if
something is wrong that it cannot mend.

      --dry-run            only say what would be mended`,
  startup: `alien startup [options]

Prints the systemd unit that brings the daemons of the state directory back when the machine starts: a unit of the
system for root, else one of the account. Stopping the unit stops the daemons.

      --install            write it and, where systemd runs this machine, enable and start it
      --uninstall          take it away; what runs goes on
      --run                do what the unit does, here: keep the daemons until Ctrl-C, which stops them
      --unit-dir DIR       write it there, and tell systemd nothing: for an image of another machine`,
  destroy: `alien destroy [options]

Stops and removes every resource of the deployment. What linked resources and image volumes store stays for the
next deploy.

      --data               remove that too${ELSEWHERE}`,
  commands: `alien commands invoke ID NAME [options]      call a command of daemon ID; prints its result as JSON
alien commands submit ID NAME [options]      the same without waiting; prints the command's id
alien commands get COMMAND                   how a command is, with its result
alien commands watch COMMAND                 the same after every change, until it has ended; exits 1 if it failed
alien commands cancel COMMAND                take a command back; a handler that runs is told
alien commands list [options]                the newest first

invoke, submit:
      --params JSON        what the handler gets; @FILE reads a file, - standard input; default: null
      --raw                the parameters are bytes and no JSON, and may have any size
      --deadline TIME      no result is wanted after it: 10s, 5m, 2h, 1d from now, or an RFC 3339 time
      --idempotency-key K  the same key is the same command, for 24 hours
      --timeout SECONDS    stop waiting; the command goes on; default: 60
invoke, get:
      --output FILE        write the result's bytes to FILE, whatever they are; - is standard output
list:
      --state STATE        only PENDING_UPLOAD, PENDING, DISPATCHED, SUCCEEDED, FAILED, EXPIRED or CANCELLED ones
      --target ID          only those of this daemon
      --limit N            at most so many; --cursor C goes on after the page before

The manager is the one that this machine's deploys started, with --platform kubernetes the one in the namespace, which is
reached through the API server. Another one:
      --manager URL        with a token in ALIEN_COMMANDS_TOKEN
      --token-file PATH    the token, from a file
      --manager-ca-file PATH   as ALIEN_COMMANDS_CA_FILE: certificates that its own is to be signed with`,
  token: `alien token create --role ROLE [options]     prints a new token, this once only
alien token list                             what there is; the tokens themselves are not kept
alien token revoke TOKEN                     TOKEN is an id of the list

      --role ROLE          invoke (send commands in the deployment), receive (take those of one daemon) or admin
      --resource ID        the daemon; for receive
      --ttl SECONDS        for how long it is valid; default: until it is revoked

Needs an administrator's token: that of the manager on this machine, with --platform kubernetes of the one in the
namespace, else
      --manager URL        with a token in ALIEN_COMMANDS_ADMIN_TOKEN
      --token-file PATH    the token, from a file
      --manager-ca-file PATH   as ALIEN_COMMANDS_CA_FILE: certificates that its own is to be signed with`,
  manager: `alien manager image push REF              make the manager's image of this package, push it and print its reference
alien manager image --output WHERE          the same into a file or a folder: oci-archive:FILE[:TAG] or oci:DIR[:TAG]
alien manager install --image REF           put it into the namespace, or update the one that is there
alien manager uninstall                     remove it; refuses while daemons take their commands from it

install (also takes --namespace, --create-namespace, --registry, --docker-config, --force-conflicts, --on-failure):
      --storage SIZE       room for its database; default: what it has, else 1Gi
      --storage-class NAME default: what it has, else the cluster's
      --tls-secret NAME    speak HTTPS with the certificate in this Secret (kubernetes.io/tls); without it HTTP, guarded by
                           a NetworkPolicy
uninstall:
      --data               also what it keeps: commands, results and tokens
      --force              also while daemons take their commands from it`,
  version: "alien version\n\nPrints the package's version.",
  help: "alien help [COMMAND]",
}

function print(command) {
  if (command === undefined) console.log(GENERAL)
  else if (MORE[command] !== undefined) console.log(`${MORE[command]}\n\nOptions of every command: \`alien help\`.`)
  else {
    console.error(`alien: there is no command ${JSON.stringify(command)}`)
    return 2
  }
  return 0
}

module.exports = { print }
