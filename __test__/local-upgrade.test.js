"use strict"

// Another version of the package comes to a tree that runs: scanner and supervisors become it in place, and no daemon
// notices.

const fs = require("node:fs")
const path = require("node:path")
const { allLines, daemon, eventually, isAlive, stackOf, testBed, until } = require("./lib/bed.js")
const { installed } = require("./lib/package.js")
const { stateOf, treeOf } = require("./lib/tree.js")

jest.setTimeout(60_000)

const bed = testBed()
const tree = treeOf(bed)
let image
let versions = 0
beforeAll(async () => {
  image = await bed.image()
})

/** The package with a helper that differs by what `edit` does to it; by a byte at its end that nothing reads. */
const another = (edit = (bytes) => Buffer.concat([bytes, Buffer.from(String(versions))])) => installed(path.join(bed.folder, `app-${++versions}`), edit)
const deploys = ({ run }, stack) => run(`
  const deployment = await alien.deploy(${JSON.stringify(stack)}, ${JSON.stringify(bed.options())})
  return (await deployment.status()).resources`)

const exe = (pid) => fs.readlinkSync(`/proc/${pid}/exe`)
const programs = (...pids) => pids.map((pid) => path.basename(path.dirname(exe(pid))))
const current = () => fs.readlinkSync(path.join(bed.stateDir, "bin/current"))
/** Until these run the current program. */
const areCurrent = (...pids) => eventually(() => programs(...pids), (found) => found.every((digest) => digest === current()))
/** What a process has written for itself. Clean pages are those of the program's file, which few processes run here. */
const privateKiB = (pid) => Number(fs.readFileSync(`/proc/${pid}/smaps_rollup`, "utf8").match(/^Private_Dirty:\s+(\d+)/m)[1])

test("a deploy with nothing to change brings its version; pids, starts and counts stay, and every process is kept as before", async () => {
  const stack = stackOf("same", daemon("d", image, "count", "ready"), daemon("e", image, "count", "ready"))
  const deployment = await bed.deploy(stack)
  process.kill((await bed.one(deployment, "d")).pid, "SIGKILL")
  await until(deployment, "d", /^run 2$/)
  const settled = ({ resources }) => resources.every(({ state }) => state === "running")
  const before = await eventually(() => deployment.status(), settled)
  const pids = [tree.scanner(), tree.supervisor("same", "d"), tree.supervisor("same", "e")]
  const [old] = programs(...pids)
  expect(await deploys(another(), stack)).toEqual(before.resources)
  expect(current()).not.toBe(old)
  await areCurrent(...pids)
  expect(await deployment.status()).toEqual(before)
  expect([tree.scanner(), tree.supervisor("same", "d"), tree.supervisor("same", "e")]).toEqual(pids)
  for (const pid of pids) await eventually(() => privateKiB(pid), (kib) => kib <= 256)
  // They still are what they were: the end of a program, of a supervisor and of the scanner is seen.
  process.kill(before.resources[0].pid, "SIGKILL")
  await until(deployment, "d", /^run 3$/)
  expect(await bed.one(deployment, "d")).toMatchObject({ restarts: 2, lastExit: { signal: "SIGKILL" } })
  process.kill(pids[2], "SIGKILL")
  await until(deployment, "e", /^run 2$/)
  process.kill(pids[0], "SIGKILL")
  await eventually(() => tree.scanner(), (pid) => pid !== undefined && pid !== pids[0])
  await areCurrent(tree.scanner(), tree.supervisor("same", "e"))
  // The way back is no other one: this package's own program differs, and is the same release.
  await bed.deploy(stackOf("same", daemon("d", image, "count", "ready", "print=changed"), daemon("e", image, "count", "ready")))
  await areCurrent(tree.scanner(), tree.supervisor("same", "d"), tree.supervisor("same", "e"))
  expect(current()).toBe(old)
  await deployment.destroy()
})

test("no line is lost, doubled or torn while a program floods through one upgrade after another", async () => {
  const LINES = 400_000
  const stack = stackOf("flood", daemon("d", image, "ready", `flood=${LINES}`, "unended=half ", "until=/upgraded", "print=line", "sleep"))
  const deployment = await bed.deploy(stack)
  const supervisor = tree.supervisor("flood", "d")
  const followed = until(deployment, "d", /^half line$/)
  for (let round = 0; round < 3; round++) {
    const { resources: [{ pid }] } = await deployment.status()
    expect((await deploys(another(), stack))[0].pid).toBe(pid)
    await areCurrent(supervisor)
  }
  await deployment.exec("d", ["/bin/daemon", "write=/upgraded:now", "exit=0"])
  const lines = await followed
  const numbers = lines.filter((line) => line.startsWith("flood ")).map((line) => Number(line.match(/^flood (\d+) of \d+ -{60}$/)[1]))
  expect(numbers).toEqual(Array.from({ length: numbers.length }, (_, index) => numbers[0] + index))
  expect(numbers.at(-1)).toBe(LINES)
  await deployment.destroy()
})

test("a supervisor in any of its stages goes on with it", async () => {
  const steps = { waiting: ["exit=3"], starting: ["print=starting"], stopping: ["ignore=SIGTERM", "ready"], up: ["ready"] }
  const stack = stackOf("stages", ...Object.entries(steps).map(([id, words]) => daemon(id, image, ...words).stopGracePeriodSeconds(2)))
  const other = another()
  const begun = bed.deploy(stack).catch((error) => error)
  const supervisors = () => Object.keys(steps).map((id) => tree.supervisor("stages", id))
  const pids = await eventually(supervisors, (found) => found.every(Boolean))
  expect((await begun).code).toBe("DAEMON_NOT_UP")
  const { connect } = require("@alienplatform/core")
  const deployment = await connect(bed.options({ name: "stages" }))
  const restarted = deployment.restart("stopping")
  await eventually(() => bed.one(deployment, "stopping"), ({ state }) => state === "stopping")
  // Another deployment's deploy brings the version, so that nothing of this one is changed.
  await deploys(other, stackOf("bringer", daemon("d", image, "ready")))
  await areCurrent(tree.scanner(), ...pids)
  await restarted
  const { resources } = await eventually(() => deployment.status(), ({ resources }) => resources.every(({ state, restarts }, index) => (index === 0 ? restarts >= 5 : state === "running")))
  expect(resources.map(({ restarts }) => restarts > 0)).toEqual([true, false, false, false])
  expect(supervisors()).toEqual(pids)
  await deployment.destroy()
})

test("an update on trial is taken back by the program that came meanwhile", async () => {
  const good = stackOf("trial", daemon("d", image, "count", "ready"))
  const deployment = await bed.deploy(good)
  const failing = bed.deploy(stackOf("trial", daemon("d", image, "count", "print=on trial", "wait=700", "exit=7"))).catch((error) => error)
  await until(deployment, "d", /^on trial$/)
  const supervisor = tree.supervisor("trial", "d")
  await deploys(another(), stackOf("bringer", daemon("d", image, "ready")))
  await areCurrent(supervisor)
  expect(await failing).toMatchObject({ code: "UPDATE_ROLLED_BACK" })
  await eventually(() => bed.one(deployment, "d"), ({ state }) => state === "running")
  expect(tree.supervisor("trial", "d")).toBe(supervisor)
})

test("a program that does not understand is not become", async () => {
  const stack = stackOf("refused", daemon("d", image, "ready"))
  const deployment = await bed.deploy(stack)
  const [scanner, supervisor, { pid }] = [tree.scanner(), tree.supervisor("refused", "d"), await bed.one(deployment, "d")]
  await areCurrent(scanner, supervisor)
  const before = programs(scanner, supervisor)
  const script = (body) => () => Buffer.from(`#!/bin/sh\n# ${versions}\n${body}\n`)
  // A machine that has been probed needs no helper for a deploy that changes nothing.
  const probed = fs.readdirSync(bed.stateDir).find((name) => name.startsWith("probe-"))
  expect(probed).toBeDefined()
  for (const body of [`case "$1" in probe) exec ${exe(scanner)} "$@";; *) exit 1;; esac`, `case "$1" in probe) exec ${exe(scanner)} "$@";; *) exec sleep 60;; esac`]) {
    expect((await deploys(another(script(body)), stack))[0]).toMatchObject({ pid, state: "running" })
    expect(programs(scanner, supervisor)).toEqual(before)
    expect([scanner, supervisor].map(stateOf).every((state) => "SR".includes(state))).toBe(true)
  }
  // With one that does, all is well.
  await bed.deploy(stack)
  await areCurrent(scanner, supervisor)
  expect(isAlive(pid)).toBe(true)
})

test("an older release leaves a newer one's tree alone, and starts what it starts with it", async () => {
  const stack = stackOf("older", daemon("d", image, "ready"))
  const newer = another()
  await deploys(newer, stack)
  await areCurrent(tree.scanner(), tree.supervisor("older", "d"))
  const digest = current()
  // As the later release leaves it.
  fs.writeFileSync(path.join(bed.stateDir, "bin", digest, "release"), "99.0.0")
  const deployment = await bed.deploy(stackOf("older", daemon("d", image, "ready"), daemon("e", image, "ready")))
  expect(programs(tree.scanner(), tree.supervisor("older", "d"), tree.supervisor("older", "e"))).toEqual([digest, digest, digest])
  // Also where it has to start the scanner.
  await deployment.destroy()
  fs.writeFileSync(path.join(bed.stateDir, "bin", digest, "release"), "0.0.1")
  await bed.deploy(stack)
  expect(current()).not.toBe(digest)
  await areCurrent(tree.scanner(), tree.supervisor("older", "d"))
})

test("programs that nobody runs any more are pruned, and what runs is not", async () => {
  const deployment = await bed.deploy(stackOf("pruned", daemon("d", image, "ready")))
  await areCurrent(tree.scanner(), tree.supervisor("pruned", "d"))
  const { prune } = require("@alienplatform/core")
  await prune(bed.options())
  const bin = fs.readdirSync(path.join(bed.stateDir, "bin"))
  expect(bin).toEqual(expect.arrayContaining(["current", current()]))
  // An init runs the program that its supervisor had when it was started.
  const running = new Set(fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    try { return [path.basename(path.dirname(exe(pid)))] } catch { return [] }
  }))
  for (const digest of bin.filter((name) => name !== "current")) expect([digest, running.has(digest) || digest === current()]).toEqual([digest, true])
  await allLines(deployment, "d")
})
