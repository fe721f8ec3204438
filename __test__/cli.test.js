"use strict"

// The `alien` command, as a person and as a script use it.

const { execFileSync } = require("node:child_process")
const fs = require("node:fs")
const http = require("node:http")
const path = require("node:path")
const { eventually, has, needs, root, startCli, testBed } = require("./lib/bed.js")

const bed = testBed()
let image
let folder
let alien

/** A stack file of one daemon per id. */
const source = (name, ids, steps = ["print=hello", "ready"]) => `
  import * as alien from "@alienplatform/core"
  const daemon = (id: string) => new alien.Daemon(id).code({ type: "image", image: ${JSON.stringify(image)} }).command(${JSON.stringify(["/bin/daemon", ...steps])}).permissions("execution").build()
  const stack = new alien.Stack(${JSON.stringify(name)})
  for (const id of ${JSON.stringify(ids)}) stack.add(daemon(id), "live")
  export default stack.build()
`

function put(name, text) {
  const dir = path.join(bed.folder, name)
  fs.mkdirSync(dir, { recursive: true })
  fs.writeFileSync(path.join(dir, "alien.ts"), text)
  return dir
}

beforeAll(async () => {
  image = await bed.image()
  // Whatever the machine, it takes more than a MiB.
  folder = put("app", source("app", ["one", "two"], ["print=hello", `eat=${2 * 1024 * 1024}`, "ready"]))
  alien = (args, options) => bed.cli(args, { cwd: folder, ...options })
})

test("a whole life: plan, deploy, status, logs, restart, destroy", async () => {
  const planned = await alien(["plan"])
  expect(planned).toMatchObject({ code: 0, stderr: "" })
  expect(planned.stdout).toMatch(/^\+ daemon one: create \(it does not exist yet\)\n    code\.image: "oci:/)

  const deployed = await alien(["deploy"])
  expect(deployed).toMatchObject({ code: 0, stdout: "" })
  expect(deployed.stderr).toMatch(/\+ daemon one: create .*\+ daemon two: create .*one: starting\n.*one: running\n.*✓ "app" is up\.\n$/s)

  const again = await alien(["deploy"])
  expect(again).toEqual({ code: 0, stdout: "", stderr: 'No changes: "app" is as the stack says.\n' })
  expect(await alien(["plan"])).toMatchObject({ code: 0, stdout: expect.stringMatching(/= daemon one: none .*No changes\.\n$/s) })

  const status = await alien(["status"])
  expect(status).toMatchObject({ code: 0, stderr: "" })
  expect(status.stdout).toMatch(/^Deployment app on local\nID +TYPE +STATE +PID +UP +RESTARTS +CPU +MEMORY +LAST EXIT +IMAGE\none +daemon +running +\d+ +\d+s +0 +[\d.]+% +[\d.]+ MiB +- +oci:/)

  expect(await alien(["logs", "one"])).toEqual({ code: 0, stdout: "hello\n", stderr: "" })
  expect((await alien(["logs"])).stdout.split("\n").sort()).toEqual(["", "one | hello", "two | hello"])
  expect((await alien(["logs", "one", "-t"])).stdout).toMatch(/^\d{4}-\d\d-\d\dT\S+Z hello\n$/)
  const [line] = (await alien(["logs", "one", "--tail", "1", "--since", "1h", "--json"])).stdout.trim().split("\n").map(JSON.parse)
  expect(line).toEqual({ id: "one", time: expect.any(String), stream: "stdout", line: "hello" })
  expect((await alien(["logs", "one", "--since", "2100-01-01T00:00:00Z"])).stdout).toBe("")

  const restarted = await alien(["restart", "one"])
  expect(restarted).toMatchObject({ code: 0, stdout: "", stderr: "one: restarting\none: running\n" })

  const destroyed = await alien(["destroy"])
  expect(destroyed).toMatchObject({ code: 0, stdout: "" })
  expect(destroyed.stderr).toMatch(/Deployment "app" is gone\.\n$/)
  expect(await alien(["destroy"])).toEqual({ code: 0, stdout: "", stderr: 'There is no deployment "app": nothing to destroy.\n' })
  expect(await alien(["status"])).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining('error: there is no deployment "app"') })
}, 30_000)

test("--json: one document on stdout, and nothing else there", async () => {
  const args = ["--json", "--name", "machine"]
  const one = async (command, ...more) => {
    const { code, stdout } = await alien([command, ...args, ...more])
    return [code, JSON.parse(stdout)]
  }
  expect(await one("preflight")).toMatchObject([0, { ok: true, platform: "local" }])
  expect(await one("plan")).toMatchObject([0, { changes: [{ id: "one", action: "create" }, { id: "two", action: "create" }] }])
  expect(await one("deploy")).toMatchObject([0, { name: "machine", stackId: "app", resources: [{ id: "one", state: "running" }, { id: "two" }] }])
  expect(await one("status")).toMatchObject([0, { name: "machine", resources: [{ state: "running" }, {}] }])
  expect(await one("destroy", "--data")).toEqual([0, { name: "machine", destroyed: true }])
  expect(await one("destroy")).toEqual([0, { name: "machine", destroyed: false }])
  expect(await one("status")).toMatchObject([1, { error: { code: "DEPLOYMENT_NOT_FOUND", message: expect.any(String), hint: expect.any(String), httpStatusCode: 404 } }])
  expect(JSON.parse((await alien(["version", "--json"])).stdout)).toEqual({ version: require("../package.json").version })
}, 30_000)

test("logs --follow goes on until Ctrl-C, which is no failure; a reader that stops reading ends it too", async () => {
  const cwd = put("ticking", source("ticking", ["t"], ["ready", "tick=5"]))
  expect(await alien(["deploy"], { cwd })).toMatchObject({ code: 0 })
  const env = { ALIEN_STATE_DIR: bed.stateDir }
  const { child, out, ended } = startCli(["logs", "t", "--follow"], { cwd, env })
  await eventually(() => out.stdout.includes("tick 3\n"))
  child.kill("SIGINT")
  expect(await ended).toMatchObject({ code: 0, stderr: "" })
  const piped = startCli(["logs", "t", "--follow"], { cwd, env })
  await eventually(() => piped.out.stdout.includes("tick"))
  piped.child.stdout.destroy()
  expect(await piped.ended).toMatchObject({ code: 0, stderr: "" })
}, 20_000)

test("Ctrl-C while an image is fetched: exit code 130, and nothing is left", async () => {
  let asked
  const waiting = new Promise((resolve) => (asked = resolve))
  const server = http.createServer(() => asked())
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve))
  bed.later(() => (server.closeAllConnections(), new Promise((resolve) => server.close(resolve))))
  const cwd = put("hanging", source("hanging", ["d"]).replace(JSON.stringify(image), '"hangs.test/a:1"'))
  const { child, ended } = startCli(["deploy", "--mirror", `hangs.test=http://127.0.0.1:${server.address().port}`], { cwd, env: { ALIEN_STATE_DIR: bed.stateDir } })
  await waiting
  child.kill("SIGINT")
  expect(await ended).toMatchObject({ code: 130, stdout: "", stderr: expect.stringContaining("alien: cancelled") })
  expect((await alien(["status", "-n", "hanging"], { cwd })).code).toBe(1)
  const late = await alien(["deploy", "--timeout", "0.2", "--mirror", `hangs.test=http://127.0.0.1:${server.address().port}`], { cwd })
  expect(late).toMatchObject({ code: 1, stderr: expect.stringMatching(/^error: not done within 0\.2 s; it was .*\nhint: .*--timeout/) })
})

test.each([
  [["deply"], 'there is no command "deply"; did you mean `alien deploy`?'],
  [["frobnicate"], 'there is no command "frobnicate"\n'],
  [["deploy", "--nope"], "--nope"],
  [["deploy", "extra"], 'deploy takes no "extra"'],
  [["restart"], "restart needs the id of a daemon"],
  [["deploy", "--timeout", "soon"], '--timeout takes a number, not "soon"'],
  [["deploy", "--mirror", "x"], '--mirror takes HOST=URL, not "x"'],
  [["deploy", "--registry", "ghcr.io"], '--registry takes HOST=HOST, not "ghcr.io"'],
  [["deploy", "--binding", "nope"], "--binding takes ID=JSON"],
  [["plan", "--binding", "b={hush}"], "--binding b is not JSON"],
  [["preflight", "--bindings", "/no/such/file"], "--bindings: /no/such/file cannot be read"],
  [["status", "--binding", "b={}"], "--binding"],
  [["deploy", "--secret", "nope"], 'a secret is named ID.NAME, not "nope"'],
  [["deploy", "--secret", "one.NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE is not set"],
  [["deploy", "--secret-file", "one.A=/no/such/file"], "/no/such/file cannot be read"],
  [["logs", "--since", "yesterday"], '--since takes 10s, 5m, 2h, 1d or an RFC 3339 time, not "yesterday"'],
  [["help", "nope"], 'there is no command "nope"'],
])("a wrong command line is exit code 2: %j", async (args, message) => {
  const { code, stdout, stderr } = await alien(args)
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" })
  expect(stderr).toContain(message)
  expect(stderr).not.toContain("hush")
})

test("bindings come from a file and from the command line, which goes before it", async () => {
  const cwd = put("bound", `
    import * as alien from "@alienplatform/core"
    const cache = new alien.Kv("cache").build()
    const jobs = new alien.Queue("jobs").build()
    const d = new alien.Daemon("d").code({ type: "image", image: "ghcr.io/a/b:1" }).link(cache).link(jobs).permissions("p").build()
    export default new alien.Stack("bound").add(cache, "live").add(jobs, "live").add(d, "live").build()`)
  fs.writeFileSync(path.join(cwd, "bindings.json"), JSON.stringify({ cache: { type: "kv", service: "redis", connectionUrl: "redis://h" }, jobs: 1 }))
  const jobs = `jobs=${JSON.stringify({ type: "queue", service: "sqs", queueUrl: "https://sqs/x" })}`
  const args = ["preflight", "-p", "kubernetes", "--json"]
  expect(await alien([...args, "--bindings", "bindings.json", "--binding", jobs], { cwd })).toMatchObject({ code: 0 })
  const some = JSON.parse((await alien([...args, "--binding", jobs], { cwd })).stdout)
  expect(some.checks.find(({ id }) => id === "links-can-be-bound").issues.map(({ message }) => message)).toEqual(['the kv "cache" has no binding: Kubernetes has none of its own'])
  expect(JSON.parse((await alien([...args, "--bindings", "bindings.json"], { cwd })).stdout).error).toMatchObject({ code: "VALIDATION_ERROR", issues: [{ path: ["bindings", "jobs"] }] })
})

test("help and version", async () => {
  const general = await alien([])
  expect(general).toMatchObject({ code: 0, stderr: "" })
  for (const command of ["preflight", "plan", "deploy", "status", "logs", "restart", "destroy", "version", "help"]) {
    expect(general.stdout).toMatch(new RegExp(`^  .*\\b${command}\\b`, "m"))
    expect(await alien([command, "--help"])).toMatchObject({ code: 0, stderr: "", stdout: expect.stringContaining(`alien ${command}`) })
  }
  expect(await alien(["--version"])).toEqual({ code: 0, stdout: `${require("../package.json").version}\n`, stderr: "" })
})

test("secrets come from the environment or a file, and are shown nowhere", async () => {
  const cwd = put("secretive", source("secretive", ["d"], ["env", "ready"]))
  fs.writeFileSync(path.join(cwd, "key.pem"), "line one\nline two\n")
  const deployed = await alien(["deploy", "--secret", "d.TOKEN=CI_TOKEN", "--secret-file", "d.KEY=key.pem"], { cwd, env: { CI_TOKEN: "hush-hush" } })
  expect(deployed.code).toBe(0)
  expect(deployed.stderr + (await alien(["plan"], { cwd })).stdout + (await alien(["status", "--json"], { cwd })).stdout).not.toMatch(/hush|line one/)
  const { stdout } = await alien(["logs", "d"], { cwd })
  expect(stdout).toContain("env TOKEN=hush-hush\n")
  expect(stdout).toContain("env KEY=line one\nline two\n")
  expect(stdout).not.toContain("CI_TOKEN")
})

test("colours are for terminals only, and for nobody under NO_COLOR", async () => {
  const { stdout, stderr } = await alien(["plan"])
  expect(stdout + stderr).not.toContain("\x1b")
})

needs(!has("script") && "script(1) is not installed").test("on a terminal there are colours, unless NO_COLOR is set", async () => {
  const run = (env) => execFileSync("script", ["-qec", `${process.execPath} ${path.join(root, "js/cli.js")} preflight`, "/dev/null"], {
    cwd: folder, encoding: "utf8", env: { PATH: process.env.PATH, TERM: "xterm", ...env },
  })
  expect(run({})).toContain("\x1b[32m✓")
  expect(run({ NO_COLOR: "1" })).not.toContain("\x1b[")
})

describe("alien preflight --platform aws", () => {
  test("prints the documented message and exits with 1", async () => {
    const { code, stdout, stderr } = await alien(["preflight", "--platform", "aws"])
    expect({ code, stderr }).toEqual({ code: 1, stderr: "" })
    expect(stdout).toContain("Daemon resources are only supported on Local and Kubernetes. Unsupported daemon resources for aws: one, two\n")
    expect(await alien(["deploy", "--platform", "aws"])).toMatchObject({ code: 1, stderr: expect.stringContaining("Unsupported daemon resources for aws: one, two") })
  })

  needs(!has("strace") && "strace is not installed").test("opens no socket and writes no file", async () => {
    const trace = path.join(bed.folder, "trace")
    const calls = "trace=socket,connect,bind,openat,open,creat,mkdir,mkdirat,unlink,unlinkat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,truncate,chmod,fchmodat"
    const { code } = await alien(["preflight", "--platform", "aws"], { via: ["strace", "-f", "-qq", "-o", trace, "-e", calls] })
    expect(code).toBe(1)
    const lines = fs.readFileSync(trace, "utf8").split("\n").map((line) => line.replace(/^\d+ +/, "")).filter((line) => /^\w+\(/.test(line))
    expect(lines.length).toBeGreaterThan(10)
    // Node itself opens the terminal's device, at most.
    const touches = lines.filter((line) => !/^open(at)?\(/.test(line) || /O_(WRONLY|RDWR|CREAT)/.test(line)).filter((line) => !line.includes('"/dev/'))
    expect(touches).toEqual([])
  })
})

test("without a stack file the only deployment is meant; of several one must be named", async () => {
  const bare = path.join(bed.folder, "bare")
  fs.mkdirSync(bare)
  const state = { cwd: bare, env: { ALIEN_STATE_DIR: path.join(bed.folder, "other-state") } }
  expect(await alien(["status"], state)).toMatchObject({ code: 1, stderr: expect.stringMatching(/which deployment\? .* there is no deployment here\nhint: name it with --name/) })
  expect(await alien(["deploy"], state)).toMatchObject({ code: 1, stderr: expect.stringContaining(`there is no alien.ts, alien.mts, alien.js, alien.mjs in ${bare}`) })
  expect(await alien(["deploy", "--state-dir", path.join(bed.folder, "other-state")])).toMatchObject({ code: 0, stderr: expect.stringContaining("is up") })
  expect(await alien(["status"], state)).toMatchObject({ code: 0, stdout: expect.stringContaining("Deployment app on local") })
  expect(await alien(["destroy"], state)).toMatchObject({ code: 0 })
})
