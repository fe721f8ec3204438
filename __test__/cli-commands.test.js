"use strict"

// `alien commands` and `alien token`, before a real manager and a real daemon.

const { spawn } = require("node:child_process")
const { randomBytes } = require("node:crypto")
const fs = require("node:fs")
const path = require("node:path")
const { cli, eventually, needs, root, startCli } = require("./lib/bed.js")
const { missing, testManager } = require("./lib/manager.js")

jest.setTimeout(30_000)

needs(missing).describe("with a manager and a daemon", () => {
  const its = testManager()
  let daemon
  let token
  let alien
  let state

  beforeAll(async () => {
    daemon = await its.receiver("d", { options: { concurrency: 4 } })
    token = (await its.token("invoke")).token
    // As a deploy on this machine leaves it.
    state = path.join(its.folder, "state")
    fs.mkdirSync(path.join(state, "manager"), { recursive: true, mode: 0o700 })
    fs.writeFileSync(path.join(state, "manager/client.json"), JSON.stringify({ url: its.url, tokens: { edge: token } }), { mode: 0o600 })
    fs.mkdirSync(path.join(state, "manager/data"), { recursive: true })
    fs.writeFileSync(path.join(state, "manager/data/admin.token"), its.admin, { mode: 0o600 })
    alien = (args, options) => cli(args, { cwd: its.folder, ...options, env: { ALIEN_STATE_DIR: state, ...options?.env } })
  })

  test("invoke prints the result as JSON: for a person, and with --json on one line", async () => {
    expect(await alien(["commands", "invoke", "d", "echo", "--params", '{"since":"2026-05-01"}'])).toEqual({ code: 0, stdout: '{\n  "since": "2026-05-01"\n}\n', stderr: "" })
    expect(await alien(["commands", "invoke", "d", "echo", "--params", '{"a": [1]}', "--json"])).toEqual({ code: 0, stdout: '{"a":[1]}\n', stderr: "" })
    expect(await alien(["commands", "invoke", "d", "echo"])).toEqual({ code: 0, stdout: "null\n", stderr: "" })
  })

  test("parameters come from a file, or from standard input", async () => {
    fs.writeFileSync(path.join(its.folder, "params.json"), '["from a file"]\n')
    expect(await alien(["commands", "invoke", "d", "echo", "--params", "@params.json", "--json"])).toMatchObject({ code: 0, stdout: '["from a file"]\n' })
    const args = [path.join(root, "js/cli.js"), "commands", "invoke", "d", "echo", "--params", "-", "--json"]
    const env = { PATH: process.env.PATH, ALIEN_STATE_DIR: state }
    const child = spawn(process.execPath, args, { cwd: its.folder, env, stdio: ["pipe", "pipe", "inherit"] })
    let out = ""
    child.stdout.on("data", (text) => (out += text))
    child.stdin.end('"from a pipe"')
    await new Promise((resolve) => child.on("close", resolve))
    expect(out).toBe('"from a pipe"\n')
  })

  test("with --raw bytes are sent as they are, and with --output a result is written as it is", async () => {
    const bytes = randomBytes(500_000)
    const [sent, got] = ["sent.bin", "got.bin"].map((name) => path.join(its.folder, name))
    fs.writeFileSync(sent, bytes)
    const args = ["commands", "invoke", "d", "copy", "--raw", "--params"]
    expect(await alien([...args, "@sent.bin", "--output", "got.bin"])).toEqual({ code: 0, stdout: "", stderr: "500000 bytes are in got.bin.\n" })
    expect(fs.readFileSync(got).equals(bytes)).toBe(true)
    expect(await alien([...args, "just a text", "--output", "-"])).toEqual({ code: 0, stdout: "just a text", stderr: "" })
    expect(await alien([...args, '{"a":1}', "--json"])).toEqual({ code: 0, stdout: '{"a":1}\n', stderr: "" })
    expect(await alien([...args, "@sent.bin", "--output", "/dev/null", "--json"])).toEqual({ code: 0, stdout: '{"output":"/dev/null","bytes":500000}\n', stderr: "" })
    expect(await alien([...args, "@sent.bin", "--output", "-", "--json"])).toMatchObject({ code: 2, stdout: expect.stringContaining("leave one out") })
    expect(await alien([...args, "@sent.bin"])).toMatchObject({ code: 1, stdout: "", stderr: expect.stringMatching(/cannot be read: its 500000 bytes are not JSON.*\nhint: --output FILE/) })

    const env = { PATH: process.env.PATH, ALIEN_STATE_DIR: state }
    const child = spawn(process.execPath, [path.join(root, "js/cli.js"), ...args, "-", "--output", "-"], { cwd: its.folder, env, stdio: ["pipe", "pipe", "inherit"] })
    const out = []
    child.stdout.on("data", (piece) => out.push(piece))
    child.stdin.end(bytes)
    await new Promise((resolve) => child.on("close", resolve))
    expect(Buffer.concat(out).equals(bytes)).toBe(true)

    const id = (await alien(["commands", "submit", "d", "copy", "--raw", "--params", "@sent.bin"])).stdout.trim()
    expect(await alien(["commands", "watch", id])).toMatchObject({ code: 0, stdout: "", stderr: expect.stringContaining(`alien commands get ${id} --output FILE`) })
    fs.rmSync(got)
    expect(await alien(["commands", "get", id, "--output", "got.bin"])).toMatchObject({ code: 0 })
    expect(fs.readFileSync(got).equals(bytes)).toBe(true)
    const failed = (await alien(["commands", "submit", "d", "fail", "--params", "{}"])).stdout.trim()
    await alien(["commands", "watch", failed])
    expect(await alien(["commands", "get", failed, "--output", "none.bin"])).toMatchObject({ code: 1, stderr: expect.stringMatching(/is FAILED and has no result\nhint: /) })
    expect(await alien(["commands", "get", id, "--output", "no/such/folder"])).toMatchObject({ code: 1, stderr: "error: no/such/folder cannot be written (ENOENT)\n" })
    expect(fs.readdirSync(its.folder).filter((name) => name.includes(".part") || name === "none.bin")).toEqual([])
  })

  test("what goes wrong in the handler is exit code 1", async () => {
    const args = ["commands", "invoke", "d", "fail", "--params", '{"code":"QUOTA","message":"no more","details":{"limit":3}}']
    expect(await alien(args)).toEqual({ code: 1, stdout: "", stderr: expect.stringMatching(/^error: "fail" \(cmd_[^)]+\) failed: QUOTA: no more\n$/) })
    const { code, stdout } = await alien([...args, "--json"])
    expect([code, JSON.parse(stdout)]).toMatchObject([1, { error: { code: "DEPLOYMENT_COMMAND_ERROR", context: { errorCode: "QUOTA", errorDetails: { limit: 3 } } } }])
  })

  test("submit, get, watch, list, cancel", async () => {
    const submitted = await alien(["commands", "submit", "d", "gate", "--params", '{"name":"g","progress":{"done":1}}', "--idempotency-key", "k", "--deadline", "1h"])
    expect(submitted).toEqual({ code: 0, stdout: expect.stringMatching(/^cmd_\S+\n$/), stderr: "" })
    const id = submitted.stdout.trim()
    expect(JSON.parse((await alien(["commands", "submit", "d", "gate", "--params", '{"name":"g","progress":{"done":1}}', "--idempotency-key", "k", "--json"])).stdout)).toMatchObject({ commandId: id })
    await daemon.until(/^begun g 1$/)
    const seen = JSON.parse((await alien(["commands", "get", id])).stdout)
    expect(seen).toMatchObject({ commandId: id, state: "DISPATCHED", deadline: expect.any(String) })
    expect(Date.parse(seen.deadline) - Date.parse(seen.createdAt)).toBeGreaterThan(3_590_000)

    const watching = startCli(["commands", "watch", id], { cwd: its.folder, env: { ALIEN_STATE_DIR: state } })
    await eventually(() => watching.out.stderr.includes('DISPATCHED, attempt 1: {"done":1}\n'))
    expect(await alien(["commands", "watch", id, "--timeout", "0.1"])).toMatchObject({ code: 1, stderr: expect.stringContaining("has not ended within 0.1 s") })
    its.open("g")
    expect(await watching.ended).toMatchObject({ code: 0, stdout: '{\n  "name": "g",\n  "attempt": 1\n}\n', stderr: expect.stringMatching(/SUCCEEDED, attempt 1[^\n]*\n$/) })
    const lines = (await alien(["commands", "watch", id, "--json"])).stdout.trim().split("\n").map(JSON.parse)
    expect(lines).toEqual([expect.objectContaining({ commandId: id, state: "SUCCEEDED", result: { name: "g", attempt: 1 } })])

    const held = (await alien(["commands", "submit", "d", "hold", "--params", '{"name":"h"}'])).stdout.trim()
    await daemon.until(/^begun h 1$/)
    expect(await alien(["commands", "cancel", held])).toEqual({ code: 0, stdout: "", stderr: `${held} is CANCELLED.\n` })
    expect(await alien(["commands", "watch", held])).toMatchObject({ code: 1, stderr: expect.stringContaining("CANCELLED") })

    const list = await alien(["commands", "list", "--limit", "2"])
    expect(list.stdout).toMatch(new RegExp(`^COMMAND +STATE +ID +NAME +ATTEMPT +CREATED\n${held} +CANCELLED +d +hold +1 +\\S+Z\n${id} +SUCCEEDED +d +gate +1 +\\S+Z\n$`))
    const [, cursor] = list.stderr.match(/^There are more: --cursor (\S+)\n$/)
    expect((await alien(["commands", "list", "--cursor", cursor])).stdout).not.toContain(held)
    expect(JSON.parse((await alien(["commands", "list", "--state", "CANCELLED", "--target", "d", "--json"])).stdout).commands.map(({ commandId }) => commandId)).toEqual([held])
  })

  test("Ctrl-C takes a command back; a time-out leaves it", async () => {
    const calling = startCli(["commands", "invoke", "d", "hold", "--params", '{"name":"interrupted"}'], { cwd: its.folder, env: { ALIEN_STATE_DIR: state } })
    await daemon.until(/^begun interrupted 1$/)
    calling.child.kill("SIGINT")
    expect(await calling.ended).toEqual({ code: 130, stdout: "", stderr: "alien: cancelled; a command that was waited for is taken back\n" })
    await daemon.until(/^aborted interrupted /)
    const late = await alien(["commands", "invoke", "d", "gate", "--params", '{"name":"late"}', "--timeout", "0.3"])
    expect(late).toMatchObject({ code: 1, stdout: "", stderr: expect.stringMatching(/has no result after 0\.3 s; it is DISPATCHED\nhint: it goes on/) })
    its.open("late")
  })

  test("another manager is named, with a token from the environment or a file", async () => {
    const elsewhere = { env: { ALIEN_STATE_DIR: path.join(its.folder, "empty") } }
    const args = ["commands", "invoke", "d", "echo", "--params", "1", "--manager", its.url, "--name", "edge"]
    expect(await alien(args, { env: { ...elsewhere.env, ALIEN_COMMANDS_TOKEN: token } })).toEqual({ code: 0, stdout: "1\n", stderr: "" })
    const file = path.join(its.folder, "token")
    fs.writeFileSync(file, `${token}\n`)
    expect(await alien([...args, "--token-file", file], elsewhere)).toEqual({ code: 0, stdout: "1\n", stderr: "" })
    expect(await alien(args, elsewhere)).toMatchObject({ code: 2, stderr: expect.stringContaining("ALIEN_COMMANDS_TOKEN") })
    const refused = await alien(args, { env: { ...elsewhere.env, ALIEN_COMMANDS_TOKEN: "hush-hush" } })
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(/^error: .* 401 .*\nhint: .*alien token create/) })
    expect(refused.stderr).not.toContain("hush")
  })

  test("a stack file names the deployment; without one, the only one there is", async () => {
    const cwd = path.join(its.folder, "app")
    fs.mkdirSync(cwd)
    fs.writeFileSync(path.join(cwd, "alien.js"), 'module.exports = { id: "other", resources: {} }')
    const stderr = expect.stringMatching(/no daemon of deployment "other" .* takes commands; those of "edge" do\nhint: .*commandsEnabled/)
    expect(await alien(["commands", "invoke", "d", "echo"], { cwd })).toMatchObject({ code: 1, stderr })
    expect(await alien(["commands", "invoke", "d", "echo", "-n", "edge"], { cwd })).toMatchObject({ code: 0 })
  })

  test("where no manager runs, the error says how to get one", async () => {
    const env = { ALIEN_STATE_DIR: path.join(its.folder, "empty") }
    for (const args of [["commands", "list"], ["token", "list"]]) {
      expect(await alien(args, { env })).toMatchObject({ code: 1, stderr: expect.stringMatching(/^error: no manager of commands runs here: .*client\.json\nhint: .*commandsEnabled\(true\)/) })
    }
  })

  test("tokens are made, listed and revoked", async () => {
    const made = await alien(["token", "create", "--role", "invoke", "--ttl", "3600", "-n", "edge"])
    const said = /^Its id is tok_\S+; it expires at \S+Z\. The token is shown this once only\.\n$/
    expect(made).toMatchObject({ code: 0, stdout: expect.stringMatching(/^alien_invoke_\S+\n$/), stderr: expect.stringMatching(said) })
    const env = { ALIEN_COMMANDS_TOKEN: made.stdout.trim() }
    const call = ["commands", "invoke", "d", "echo", "--manager", its.url, "-n", "edge"]
    expect(await alien(call, { env })).toMatchObject({ code: 0 })
    const other = JSON.parse((await alien(["token", "create", "--role", "receive", "--resource", "e", "-n", "edge", "--json"])).stdout)
    expect(other).toMatchObject({ token: expect.any(String), role: "receive", deploymentId: "edge", resourceId: "e" })
    const { stdout } = await alien(["token", "list"])
    expect(stdout).toMatch(new RegExp(`^TOKEN +ROLE +DEPLOYMENT +ID +CREATED +EXPIRES\n(.*\n)*${other.id} +receive +edge +e +\\S+Z +never\n`))
    expect(stdout).not.toContain(other.token)
    const [id] = made.stderr.match(/tok_[^;]+/)
    expect(await alien(["token", "revoke", id])).toEqual({ code: 0, stdout: "", stderr: `${id} is revoked.\n` })
    expect(await alien(call, { env })).toMatchObject({ code: 1, stderr: expect.stringContaining("401") })
    expect(await alien(["token", "revoke", id])).toMatchObject({ code: 1, stderr: expect.stringContaining("404 TOKEN_NOT_FOUND") })
    const byName = { env: { ALIEN_COMMANDS_ADMIN_TOKEN: its.admin, ALIEN_STATE_DIR: "/nowhere" } }
    expect(JSON.parse((await alien(["token", "list", "--manager", its.url, "--json"], byName)).stdout).tokens.map((one) => one.id)).toContain(other.id)
    expect(JSON.parse((await alien(["token", "create", "--role", "admin", "--json"])).stdout).deploymentId).toBeUndefined()
  })
})

test.each([
  [["commands"], "commands needs one of invoke, submit, get, list, cancel, watch"],
  [["commands", "call"], "there is no `alien commands call`; there is invoke"],
  [["commands", "invoke", "d"], "commands invoke needs NAME: alien commands invoke ID NAME"],
  [["commands", "get"], "commands get needs COMMAND"],
  [["commands", "list", "x"], 'commands list takes no "x"'],
  [["commands", "get", "cmd_1", "--params", "1"], "commands get takes no --params"],
  [["commands", "invoke", "d", "n", "--state", "PENDING"], "commands invoke takes no --state"],
  [["commands", "invoke", "d", "n", "--params", "{hush}"], "--params: that is not JSON"],
  [["commands", "invoke", "d", "n", "--params", "@/no/such/file"], "--params: /no/such/file cannot be read (ENOENT)"],
  [["commands", "invoke", "d", "n", "--raw"], "--raw says what --params are"],
  [["commands", "invoke", "d", "n", "--raw", "--params", "@/no/such/file"], "--params: /no/such/file cannot be read (ENOENT)"],
  [["commands", "submit", "d", "n", "--output", "x"], "commands submit takes no --output"],
  [["commands", "invoke", "d", "n", "--deadline", "soon"], '--deadline takes 10s, 5m, 2h, 1d or an RFC 3339 time, not "soon"'],
  [["commands", "list", "-p", "aws"], "--platform aws needs --manager URL"],
  [["commands", "list", "--manager", "http://127.0.0.1:1"], "--manager needs a token"],
  [["commands", "list", "--token-file", "/no/such/file"], "/no/such/file cannot be read"],
  [["token", "create"], "token create needs --role invoke|receive|admin"],
  [["token", "create", "--role", "receive"], "--resource ID"],
  [["token", "create", "--role", "invoke", "--resource", "d"], "leave out --resource"],
  [["token", "create", "--role", "admin", "--ttl", "1.5"], "--ttl takes whole seconds"],
  [["token", "revoke"], "token revoke needs TOKEN"],
  [["token", "list", "--ttl", "1"], "token list takes no --ttl"],
])("a wrong command line is exit code 2: %j", async (args, message) => {
  const { code, stdout, stderr } = await cli(args, { env: { ALIEN_STATE_DIR: "/nowhere" } })
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" })
  expect(stderr).toContain(message)
  expect(stderr).not.toContain("hush")
})

test("help", async () => {
  for (const command of ["commands", "token"]) {
    expect(await cli([command, "--help"])).toMatchObject({ code: 0, stderr: "", stdout: expect.stringContaining(`alien ${command} `) })
    expect((await cli([])).stdout).toMatch(new RegExp(`^  alien ${command} `, "m"))
  }
})
