"use strict"

// `alien startup`: the unit, and what it does: a machine that has started again has its daemons again.

const { spawnSync } = require("node:child_process")
const fs = require("node:fs")
const os = require("node:os")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { allLines, daemon, eventually, has, isAlive, isRoot, needs, processesWith, stackOf, startCli, testBed, until, where } = require("./lib/bed.js")
const { treeOf } = require("./lib/tree.js")

jest.setTimeout(60_000)

const bed = testBed()
const tree = treeOf(bed)
let image
beforeAll(async () => {
  image = await bed.image()
})

const units = () => path.join(bed.folder, "units")
const lines = (text) => text.split("\n")

/** A line of shell as systemd reads it: its words, quoted as it has them. */
function words(line) {
  return [...line.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, quoted, bare]) => (quoted ?? bare).replace(/\\(.)/g, "$1").replaceAll("%%", "%"))
}

describe("the unit", () => {
  test("is printed, with the commands that make it one of the machine", async () => {
    const { code, stdout, stderr } = await bed.cli(["startup"])
    expect(code).toBe(0)
    const of = (name) => lines(stdout).filter((line) => line.startsWith(`${name}=`)).map((line) => line.slice(name.length + 1))
    expect(words(of("ExecStart")[0])).toEqual([path.join(bed.stateDir, "bin/current/alien-supervisor"), "keep", bed.stateDir])
    expect([of("Restart"), of("KillMode"), of("Delegate"), of("OOMPolicy"), of("TasksMax")].flat()).toEqual(["always", "process", "yes", "continue", "infinity"])
    expect(of("WantedBy")).toEqual([isRoot ? "multi-user.target" : "default.target"])
    expect(stderr).toMatch(isRoot ? /\/etc\/systemd\/system\/alien-\w+\.service/ : /systemd\/user\/alien-\w+\.service/)
    expect(stderr.includes(`loginctl enable-linger ${os.userInfo().username}`)).toBe(!isRoot)
    expect(stderr).toContain(isRoot ? "systemctl enable --now alien-" : "systemctl --user enable --now alien-")
    // What it runs is there.
    fs.accessSync(words(of("ExecStart")[0])[0], fs.constants.X_OK)
  })

  test("is written and taken away", async () => {
    const installed = await bed.cli(["startup", "--install", "--unit-dir", units(), "--json"])
    expect([installed.code, installed.stderr]).toEqual([0, expect.stringContaining("Written")])
    const { path: file, text, done, left } = JSON.parse(installed.stdout)
    expect(path.dirname(file)).toBe(units())
    expect([fs.readFileSync(file, "utf8"), fs.statSync(file).mode & 0o777, done]).toEqual([text, 0o644, []])
    expect(left.at(-1)).toContain(`enable --now ${path.basename(file)}`)
    // Twice is once.
    expect((await bed.cli(["startup", "--install", "--unit-dir", units()])).code).toBe(0)
    expect(fs.readdirSync(units())).toEqual([path.basename(file)])
    const removed = await bed.cli(["startup", "--uninstall", "--unit-dir", units()])
    expect([removed.code, fs.readdirSync(units())]).toEqual([0, []])
    expect((await bed.cli(["startup", "--uninstall", "--unit-dir", units()])).code).toBe(0)
  })

  where(!isRoot).test("of an account goes into its folder of configuration", async () => {
    const env = { XDG_CONFIG_HOME: path.join(bed.folder, "config") }
    // Where no systemd runs for us, it is written all the same.
    const { stdout } = await bed.cli(["startup", "--json"], { env })
    expect(path.dirname(JSON.parse(stdout).path)).toBe(path.join(bed.folder, "config/systemd/user"))
  })

  test("is not written where that cannot be, and says so", async () => {
    const file = path.join(bed.folder, "a-file")
    fs.writeFileSync(file, "")
    const { code, stderr } = await bed.cli(["startup", "--install", "--unit-dir", path.join(file, "units")])
    expect([code, stderr]).toEqual([1, expect.stringContaining(file)])
    expect(stderr).toContain("hint:")
    expect((await bed.cli(["startup", "--install", "--run"])).code).toBe(2)
    expect((await bed.cli(["startup", "-p", "kubernetes"])).stderr).toContain("platform kubernetes")
  })

  needs(!has("systemd-analyze") && "systemd-analyze is not installed").test("is one that systemd takes, whatever the path", async () => {
    for (const name of ["state", "a b 100% $HOME", `a b 100% $HOME 'q' "d" back\\slash`]) {
      const stateDir = path.join(bed.folder, name)
      const { code, stderr } = await bed.cli(["startup", "--install", "--unit-dir", units(), "--state-dir", stateDir])
      expect([code, stderr]).toEqual([0, expect.stringContaining("Written")])
    }
    for (const unit of fs.readdirSync(units())) {
      const { status, stderr } = spawnSync("systemd-analyze", ["verify", ...(isRoot ? [] : ["--user"]), path.join(units(), unit)], { encoding: "utf8" })
      // Of a machine that systemd does not run it has more to say, about units that are not ours; an account's may lack all.
      const ours = lines(stderr).filter((line) => line.includes(unit))
      expect([isRoot ? status : 0, ours]).toEqual([0, []])
    }
  })
})

/** As after a reboot: nothing runs, no socket is there, and the machine has another boot id. */
async function reboot(stateDir) {
  const helpers = () => processesWith(stateDir).filter(({ command }) => command.includes("alien-supervisor")).map(({ pid }) => pid)
  const signal = (pid, name) => {
    try {
      process.kill(pid, name)
    } catch (error) {
      if (error.code !== "ESRCH") throw error
    }
  }
  // Stopped first, so that none sees another one end and does something about it.
  const stopped = new Set()
  for (let fresh = helpers(); fresh.length > 0; fresh = helpers().filter((pid) => !stopped.has(pid))) {
    for (const pid of fresh) stopped.add(pid) && signal(pid, "SIGSTOP")
  }
  for (const pid of stopped) signal(pid, "SIGKILL")
  await eventually(helpers, (left) => left.length === 0)
  const walk = (dir) => {
    for (const entry of fs.readdirSync(dir, { withFileTypes: true })) {
      if (entry.isSocket() || entry.name.startsWith("probe-")) fs.rmSync(path.join(dir, entry.name))
      else if (entry.isDirectory() && entry.name !== "tops" && entry.name !== "layers") walk(path.join(dir, entry.name))
    }
  }
  walk(stateDir)
}

test("a machine that starts again has all daemons again, once, with what they had written; Ctrl-C stops them", async () => {
  const storage = new alien.Storage("data").build()
  const keeps = (id) => daemon(id, image, "count", "append=/run/alien/data/seen:x", "read=/run/alien/data/seen", "ready").link(storage)
  const stack = (name) => stackOf(name, storage, keeps("d"), daemon("e", image, "count", "ready"))
  const deployments = [await bed.deploy(stack("first")), await bed.deploy(stack("second"))]
  const before = (await Promise.all(deployments.map((one) => one.status()))).flatMap(({ resources }) => resources.filter(({ pid }) => pid))
  await reboot(bed.stateDir)
  await eventually(() => before.filter(({ pid }) => isAlive(pid)), (left) => left.length === 0)
  const { child, out, ended } = startCli(["startup", "--run"], { env: { ALIEN_STATE_DIR: bed.stateDir }, deadline: 50_000 })
  for (const deployment of deployments) {
    for (const id of ["d", "e"]) await until(deployment, id, /^run 2$/)
    await until(deployment, "d", /^read .*: xx$/)
    const { resources } = await eventually(() => deployment.status(), ({ resources }) => resources.every(({ state }) => state === "running"))
    expect(resources.filter(({ type }) => type === "daemon")).toMatchObject([{ restarts: 1 }, { restarts: 1 }])
    await bed.note(deployment)
    expect((await allLines(deployment, "e")).map(({ line }) => line)).toEqual(["run 1", "run 2"])
    expect((await alien.plan(stack(deployment.name), bed.options())).changes.map(({ action }) => action)).toEqual(["none", "none", "none"])
  }
  // It is the scanner, also once there is nothing left to keep.
  const scanner = tree.scanner()
  for (const deployment of deployments) await deployment.destroy()
  expect(tree.scanner()).toBe(scanner)
  const deployment = await bed.deploy(stackOf("third", daemon("d", image, "catch", "ready")))
  expect(tree.scanner()).toBe(scanner)
  const { pid } = await bed.one(deployment, "d")
  child.kill("SIGINT")
  expect(await ended).toMatchObject({ code: 0 })
  expect(isAlive(pid)).toBe(false)
  expect((await allLines(deployment, "d")).map(({ line }) => line)).toEqual(["got SIGTERM", "done"])
  expect([tree.scanner(), out.stdout]).toEqual([undefined, ""])
})

test("beside a scanner that is there it waits, and takes its place when that ends; its daemons are not touched", async () => {
  const deployment = await bed.deploy(stackOf("beside", daemon("d", image, "count", "catch", "ready")))
  const [scanner, { pid }] = [tree.scanner(), await bed.one(deployment, "d")]
  const { child, ended } = startCli(["startup", "--run"], { env: { ALIEN_STATE_DIR: bed.stateDir }, deadline: 50_000 })
  const keeper = (await eventually(() => processesWith(` keep ${bed.stateDir}`).filter(({ command }) => command.includes("alien-supervisor")), (found) => found.length === 1))[0].pid
  expect(tree.scanner()).toBe(scanner)
  // A supervisor may be quicker to start another one; that is waited for as well.
  for (let one = scanner; one !== keeper; one = await eventually(() => tree.scanner(), (now) => now !== undefined && now !== one)) process.kill(one, "SIGKILL")
  expect((await bed.one(deployment, "d")).pid).toBe(pid)
  // The end of the unit's program alone is nothing to its daemons: another scanner is there at once.
  process.kill(keeper, "SIGKILL")
  expect((await ended).code).toBe(1)
  await eventually(() => tree.scanner(), (now) => now !== undefined && now !== keeper)
  expect((await bed.one(deployment, "d")).pid).toBe(pid)
  // A stop is passed on to whichever scanner there is.
  const second = startCli(["startup", "--run"], { env: { ALIEN_STATE_DIR: bed.stateDir }, deadline: 50_000 })
  const [{ pid: waiting }] = await eventually(() => processesWith(` keep ${bed.stateDir}`).filter(({ command }) => command.includes("alien-supervisor")), (found) => found.length === 1)
  // It listens to SIGTERM once that does not end it any more.
  await eventually(() => BigInt(`0x${fs.readFileSync(`/proc/${waiting}/status`, "utf8").match(/^SigBlk:\s*(\w+)/m)[1]}`) & 0x4000n)
  second.child.kill("SIGTERM")
  expect((await second.ended).code).toBe(0)
  expect([isAlive(pid), tree.scanner(), child.killed]).toEqual([false, undefined, false])
})

test("the end of the session that they were begun in is nothing to scanner and supervisors", async () => {
  const deployment = await bed.deploy(stackOf("hung-up", daemon("d", image, "count", "ready")))
  const [scanner, supervisor, { pid }] = [tree.scanner(), tree.supervisor("hung-up", "d"), await bed.one(deployment, "d")]
  // systemd.kill(5), SendSIGHUP=.
  for (const one of [scanner, supervisor]) process.kill(one, "SIGHUP")
  // One that is killed by it is so before it answers.
  await deployment.restart("d")
  await eventually(() => bed.one(deployment, "d"), (one) => one.state === "running" && one.pid !== pid)
  expect([tree.scanner(), tree.supervisor("hung-up", "d")]).toEqual([scanner, supervisor])
})
