"use strict"

// `alien doctor`: finds what is wrong with a tree, mends what needs nobody's decision, and says the rest.

const fs = require("node:fs")
const path = require("node:path")
const { daemon, eventually, failure, isAlive, manyUsers, stackOf, testBed } = require("./lib/bed.js")
const { start } = require("./lib/process.js")
const { stateOf, treeOf } = require("./lib/tree.js")

jest.setTimeout(60_000)

const bed = testBed()
const tree = treeOf(bed)
let image
let deployment

beforeAll(async () => {
  image = await bed.image()
  deployment = await bed.deploy(stackOf("kept", daemon("d", image, "ready"), daemon("e", image, "ready")))
})

/** What the command found: exit code, what it mended, and the checks that did not pass, with their messages. */
async function doctor(...args) {
  const { code, stdout } = await bed.cli(["doctor", "--json", ...args])
  const { checks, mended } = JSON.parse(stdout)
  const bad = checks.filter(({ id, status }) => !["passed", "skipped"].includes(status) && !known.includes(id))
  return { code, mended, bad: Object.fromEntries(bad.map(({ id, issues }) => [id, issues.map(({ message }) => message)])) }
}

// What this machine or account cannot do, or starts with, is no fault of the tree's.
const known = ["limits", "sandbox", "startup", ...(manyUsers() ? [] : ["users"])]
const well = { code: 0, mended: [], bad: {} }

/** Stops a process, and waits until it is. */
async function stop(pid) {
  process.kill(pid, "SIGSTOP")
  await eventually(() => stateOf(pid), (state) => state === "T")
  return pid
}

/** Ends a process, and waits until it has. */
async function kill(pid) {
  process.kill(pid, "SIGKILL")
  await eventually(() => !isAlive(pid))
}

afterEach(async () => {
  expect(await doctor()).toEqual(well)
  await eventually(() => deployment.status(), ({ resources }) => resources.every(({ state }) => state === "running"))
  await bed.note(deployment)
})

test("where all is well it says so, and changes nothing", async () => {
  const before = await deployment.status()
  expect(await doctor()).toEqual(well)
  expect(await deployment.status()).toEqual(before)
  const { stdout } = await bed.cli(["doctor"])
  expect(stdout).toMatch(/^✓ Every daemon has a supervisor that answers\n✓ Every daemon is up$/m)
})

test("a tree that is gone comes back", async () => {
  // All at once, so that nobody of it starts another one again.
  const pids = bed.helpers().map(({ pid }) => pid)
  for (const pid of pids) await stop(pid).catch(() => {})
  for (const pid of pids) if (isAlive(pid)) await kill(pid)
  expect(tree.scanner()).toBeUndefined()
  const dry = await doctor("--dry-run")
  expect(dry).toMatchObject({ code: 1, mended: expect.arrayContaining([expect.stringMatching(/^no scanner kept this state directory: /)]) })
  expect(tree.scanner()).toBeUndefined()
  expect((await doctor()).mended).toEqual(expect.arrayContaining([expect.stringMatching(/^no scanner kept/)]))
  expect(tree.supervisor("kept", "d")).toEqual(expect.any(Number))
})

test("a supervisor and a scanner that are stopped are replaced", async () => {
  const [scanner, supervisor] = [await stop(tree.scanner()), await stop(tree.supervisor("kept", "d"))]
  const { code, mended } = await doctor()
  expect({ code, mended }).toEqual({ code: 0, mended: ["no scanner kept this state directory: the scanner is stopped (SIGSTOP)", "kept/d: the supervisor is stopped (SIGSTOP)"] })
  expect([scanner, supervisor].filter(isAlive)).toEqual([])
})

test("what killed calls left half-made is removed, unless a call is under way there", async () => {
  const left = ["deployments/.kept-x1", "deployments/kept/daemons/.d-77", ".probe-4194304"].map((name) => path.join(bed.stateDir, name))
  left.forEach((dir) => fs.mkdirSync(dir))
  const underWay = path.join(bed.stateDir, "deployments/kept/daemons/.under-way")
  fs.mkdirSync(underWay)
  // A deploy holds this lock, and what is half-made meanwhile may be its own.
  const holder = start("flock", [path.join(bed.stateDir, "deployments/kept/lock"), "sh", "-c", "echo held; read end"], { stdio: ["pipe", "pipe", "pipe"] })
  await holder.until(/^held$/)
  expect((await doctor()).mended.filter((text) => text.includes("/kept/daemons/"))).toEqual([])
  holder.child.stdin.end("\n")
  await holder.ended
  const { mended } = await doctor()
  expect(mended.filter((text) => text.includes("/kept/daemons/"))).toHaveLength(2)
  expect([...left, underWay].filter((dir) => fs.existsSync(dir))).toEqual([])
})

test("a state directory that others may look into is closed", async () => {
  fs.chmodSync(bed.stateDir, 0o755)
  expect((await doctor()).mended).toEqual([`${bed.stateDir} was open to other users (mode 755)`])
  expect((fs.statSync(bed.stateDir).mode & 0o777).toString(8)).toBe("700")
})

test("a daemon that crashes is told of, with how", async () => {
  await failure(bed.deploy(stackOf("ends", daemon("d", image, "exit=3"))))
  // Now and then it runs, for a moment.
  const { code, bad } = await eventually(() => doctor(), ({ bad }) => bad.daemons)
  expect({ code, bad }).toEqual({ code: 0, bad: { daemons: ["ends/d: the program ended with exit code 3 and is started again"] } })
  await bed.cli(["destroy", "-n", "ends"])
})

test("what cannot be mended is said, with what to do, and exit code 1", async () => {
  const spec = path.join(bed.stateDir, "deployments/kept/daemons/e/spec.json")
  const text = fs.readFileSync(spec)
  fs.writeFileSync(spec, "{")
  const { code, stdout } = await bed.cli(["doctor"])
  expect(code).toBe(1)
  expect(stdout).toMatch(/^✗ Every daemon has a supervisor that answers\n {4}kept\/e: what it is to run cannot be read: .*\n {4}hint: deploy again/m)
  expect(stdout).toMatch(/^1 check failed\.$/m)
  fs.writeFileSync(spec, text)
})

test("in a cluster there is nothing for it to do", async () => {
  const { code, stderr } = await bed.cli(["doctor", "-p", "kubernetes"])
  expect(code).toBe(1)
  expect(stderr).toMatch(/platform kubernetes looks after itself\nhint: /)
})
