"use strict"

// kill -9 at any moment of a first deploy, an update and a destroy: of the process that deploys, of a daemon's program, of
// its supervisor, of the scanner, and of all of them at once. Left alone or deployed again, there is exactly one copy of
// each daemon that is wanted, of the old version or the new one, and nothing else.
//
// A sample of the moments, chosen by a seed that stands in the test's name; all of them with ALIEN_TEST_FAULTS=all.

const { spawn } = require("node:child_process")
const fs = require("node:fs")
const path = require("node:path")
const { performance } = require("node:perf_hooks")
const alien = require("@alienplatform/core")
const { eventually, isAlive, mountsBelow, processesWith, root, testBed, daemon, stackOf } = require("./lib/bed.js")
const { numbers, seed } = require("./lib/seed.js")
const { groupsOf, treeOf } = require("./lib/tree.js")

const OPERATIONS = ["deploy", "update", "destroy"]
const VICTIMS = ["deployer", "program", "supervisor", "scanner", "everything"]
const MOMENTS = 50
/** Of the moments, in a sample: one in so many. */
const SAMPLE = process.env.ALIEN_TEST_FAULTS === "all" ? 1 : 12
/** State directories side by side: one's scanner is nobody else's. */
const LANES = 3

jest.setTimeout(60 * 60_000)

const bed = testBed()
let image
const lengths = {}
/** Milliseconds after which a tree that was left alone was whole again, and found to be. */
const whole = []

/** What a name's daemons do in a version: `d` changes, `e` stays, `gone` goes and `come` comes. Their command lines say it. */
const stack = (name, version) => {
  const one = (id, says = "same") => daemon(id, image, "count", `print=${name}-${id}-${says}.`, "ready").stopGracePeriodSeconds(5)
  const other = version === "one" ? one("gone") : one("come")
  return stackOf(name, one("d", version).memory("64Mi"), one("e"), other)
}
const wanted = { deploy: "one", update: "two", destroy: undefined }

/** A state directory, and what is seen of it. */
function lane(number) {
  const stateDir = path.join(bed.folder, `lane-${number}`)
  const options = (more) => bed.options({ ...more, local: { stateDir } })
  const daemons = (name) => path.join(stateDir, "deployments", name, "daemons")
  const list = (dir) => (fs.existsSync(dir) ? fs.readdirSync(dir) : [])
  const its = {
    stateDir, options, tree: treeOf(bed, stateDir),
    /** Folders of daemons that are wanted: what of each its spec says that it runs. */
    specs: (name) => Object.fromEntries(list(daemons(name)).filter((id) => !id.startsWith(".")).flatMap((id) => {
      const file = (leaf) => path.join(daemons(name), id, leaf)
      if (fs.existsSync(file("removed")) || !fs.existsSync(file("spec.json"))) return []
      return [[id, JSON.parse(fs.readFileSync(file("spec.json"), "utf8")).run.program.argv.find((word) => word.startsWith("print="))]]
    })),
    folders: (name) => list(daemons(name)).filter((id) => !id.startsWith(".")),
    groups: (name) => its.folders(name).flatMap((id) => groupsOf(path.join(daemons(name), id))),
    /** The program of a daemon: the child of its supervisor's child. */
    program(name, id) {
      const first = (pid) => {
        try {
          return Number(fs.readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ")[0]) || undefined
        } catch {
          return undefined
        }
      }
      const supervisor = its.tree.supervisor(name, id)
      const init = supervisor && first(supervisor)
      return init && first(init)
    },
    /** Copies that run, by what they print. */
    copies: (name) => processesWith(`print=${name}-`).filter(({ command }) => command.startsWith("/bin/daemon ")),
    /** Names of what was half-made: nothing of it may be there once somebody has deployed again. */
    halfMade() {
      const found = []
      const walk = (dir, depth) => {
        for (const entry of fs.readdirSync(dir, { withFileTypes: true })) {
          const file = path.join(dir, entry.name)
          if (entry.name.startsWith(".") || /\.sock\.|^next\./.test(entry.name)) found.push(path.relative(stateDir, file))
          // Below a daemon's folder and in the store are files of images.
          else if (entry.isDirectory() && depth < 4 && !["tops", "logs", "layers", "blobs"].includes(entry.name)) walk(file, depth + 1)
        }
      }
      walk(stateDir, 0)
      return found
    },
  }
  return its
}

/** A process that has the package loaded, and does the operation when it is told to. */
function deployer({ options }, operation, name) {
  const code = `
    const alien = require(${JSON.stringify(root)})
    const options = ${JSON.stringify(options())}
    const stack = ${JSON.stringify(stack(name, wanted[operation]))}
    const told = (value) => process.stdout.write(JSON.stringify(value) + "\\n")
    alien.preflight(stack, options)
    process.stdin.once("data", () => {
      const done = ${operation === "destroy" ? `alien.connect({ ...options, name: ${JSON.stringify(name)} }).then((it) => it.destroy())` : "alien.deploy(stack, options)"}
      done.then(() => told({ done: true }), (error) => told({ code: error.code, message: error.message })).then(() => process.exit(0))
    })
    told({ ready: true })`
  const child = spawn(process.execPath, ["-e", code], { cwd: root, stdio: ["pipe", "pipe", "pipe"] })
  let [out, err] = ["", ""]
  child.stdout.setEncoding("utf8").on("data", (text) => (out += text))
  child.stderr.setEncoding("utf8").on("data", (text) => (err += text))
  child.stdin.on("error", () => {})
  const ended = new Promise((resolve) => child.on("close", (code, signal) => resolve({ code: code ?? signal, answer: out.trim().split("\n").slice(1).map((line) => JSON.parse(line))[0], err })))
  return { child, ended, ready: () => eventually(() => out.includes("\n")), begin: () => child.stdin.write("go\n") }
}

/** Waits for a moment as near as it can. */
async function wait(ms) {
  const end = performance.now() + ms
  if (ms > 2) await new Promise((resolve) => setTimeout(resolve, ms - 1.5))
  while (performance.now() < end);
}

const kill = (pid) => {
  try {
    if (pid) process.kill(pid, "SIGKILL")
  } catch (error) {
    if (error.code !== "ESRCH") throw error
  }
}

/**
 * Children of a deployer that are not yet what it was starting. Such a one outlives it, and holds all of its locks until then:
 * who deploys next leaves what is locked alone, and it goes with the deploy after that.
 */
const beingStarted = (its) => processesWith(its.stateDir).filter(({ command }) => !command.startsWith(`${its.stateDir}/bin/`) || !command.includes(" "))

/** All of the state directory and who deploys there, and whoever of them starts another one meanwhile. */
async function killEverything(its, child) {
  child.kill("SIGKILL")
  // None, twice: one that ended by itself while they were listed may have begun another one, as a scanner is begun.
  let none = 0
  await eventually(() => processesWith(its.stateDir), (left) => {
    for (const { pid } of left) kill(pid)
    none = left.length === 0 ? none + 1 : 0
    return none === 2
  })
}

/** What runs is what the folders say, once, and status says the same. */
async function settled(its, name) {
  const look = async () => {
    const specs = its.specs(name)
    const deployment = await alien.connect(its.options({ name })).catch(() => undefined)
    const { resources = [] } = (await deployment?.status().catch(() => undefined)) ?? {}
    const status = Object.fromEntries(resources.filter(({ pid }) => pid).map(({ id, pid, state }) => [id, `${pid} ${state}`]))
    const copies = its.copies(name)
    const running = Object.fromEntries(copies.map(({ pid, command }) => [command.match(/print=\S*?-(\w+)-\w+\./)[1], { pid, says: command.match(/print=\S+/)[0] }]))
    const wants = Object.keys(specs).sort()
    return {
      ok: its.folders(name).length === wants.length && copies.length === wants.length && resources.length === wants.length
        && wants.every((id) => running[id]?.says === specs[id] && status[id] === `${running[id]?.pid} running`),
      specs, status, copies, folders: its.folders(name),
    }
  }
  const { specs } = await eventually(look, ({ ok }) => ok)
  return specs
}

const EXPECTED = { one: ["d", "e", "gone"], two: ["come", "d", "e"] }

/** One operation, and what is killed at that moment of it. */
async function run(its, { operation, victim, moment, again }, name) {
  if (operation !== "deploy") await alien.deploy(stack(name, "one"), its.options())
  const before = its.copies(name)
  const one = deployer(its, operation, name)
  await one.ready()
  one.begin()
  await wait(moment * lengths[operation])
  const scannerLived = victim !== "everything" && its.tree.scanner() !== undefined
  if (victim === "everything") await killEverything(its, one.child)
  else if (victim === "deployer") one.child.kill("SIGKILL")
  else kill(victim === "scanner" ? its.tree.scanner() : victim === "supervisor" ? its.tree.supervisor(name, "d") : its.program(name, "d"))
  const { code, answer, err } = await one.ended
  await eventually(() => beingStarted(its), (left) => left.length === 0)
  const groups = its.groups(name)
  // The kernel ends what was in a pid namespace in its own time.
  if (victim === "everything") await eventually(() => its.copies(name), (left) => left.length === 0)
  else if (victim !== "deployer") {
    // Who goes on deploying gets there; unless it was the new program that ended before it was up.
    const fine = answer?.done || (victim === "program" && ["DAEMON_NOT_UP", "UPDATE_ROLLED_BACK"].includes(answer?.code))
    if (!fine) throw new Error(`the ${operation} ended with ${code}: ${JSON.stringify(answer)} ${err}`)
  }
  if (!again && scannerLived) {
    const begun = performance.now()
    const specs = await settled(its, name)
    whole.push(performance.now() - begun)
    for (const [id, says] of Object.entries(specs)) expect(says).toMatch(new RegExp(`^print=${name}-${id}-(same|one${operation === "update" ? "|two" : ""})\\.$`))
    if (victim !== "deployer" && answer.done) expect(Object.keys(specs).sort()).toEqual(EXPECTED[wanted[operation]] ?? [])
  }
  if (again || operation !== "destroy") {
    // The same once more, or the version before.
    const version = again && operation !== "destroy" ? wanted[operation] : "one"
    const deploys = () => alien.deploy(stack(name, version), its.options())
    await deploys().catch((error) => {
      // The end of the killed program may be seen only now, and then counts against this deploy.
      if (victim !== "program" || error.code !== "DAEMON_NOT_UP") throw error
      return deploys()
    })
    const specs = await settled(its, name)
    expect(specs).toEqual(Object.fromEntries(EXPECTED[version].map((id) => [id, `print=${name}-${id}-${id === "d" ? version : "same"}.`])))
    const deployment = await alien.connect(its.options({ name }))
    let last
    for await (const { line } of deployment.logs("d")) if (/-d-\w+\.$/.test(line)) last = line
    expect(`print=${last}`).toBe(specs.d)
    expect(its.halfMade()).toEqual([])
    groups.push(...its.groups(name))
  }
  const deployment = await alien.connect(its.options({ name })).catch(() => undefined)
  const all = [...before, ...its.copies(name)]
  if (deployment !== undefined) await deployment.destroy()
  expect({ copies: its.copies(name), alive: all.filter(({ pid }) => isAlive(pid)), folder: fs.existsSync(path.join(its.stateDir, "deployments", name)) }).toEqual({ copies: [], alive: [], folder: false })
  expect(groups.filter((dir) => fs.existsSync(dir))).toEqual([])
  expect(mountsBelow(its.stateDir)).toEqual([])
}

beforeAll(async () => {
  image = await bed.image()
  const measured = await Promise.all(Array.from({ length: LANES }, async (_, index) => {
    const its = lane(index)
    bed.later(() => eventually(() => processesWith(its.stateDir), (left) => left.length === 0))
    const length = {}
    // The first one fetches the image, and finds out what the machine allows.
    for (const name of ["first", "length"]) {
      for (const operation of OPERATIONS) {
        const one = deployer(its, operation, name)
        await one.ready()
        const begun = performance.now()
        one.begin()
        const { answer } = await one.ended
        expect(answer).toEqual({ done: true })
        length[operation] = performance.now() - begun
      }
    }
    return length
  }))
  for (const operation of OPERATIONS) lengths[operation] = measured.reduce((sum, one) => sum + one[operation], 0) / LANES
})

test(`kill -9 at moments of a deploy, an update and a destroy (seed ${seed})`, async () => {
  const random = numbers(seed)
  const runs = OPERATIONS.flatMap((operation) => VICTIMS.flatMap((victim) => Array.from({ length: MOMENTS }, (_, index) => (
    { operation, victim, moment: (index + random()) / MOMENTS, again: random() < 0.5 }))))
  const first = Math.floor(random() * SAMPLE)
  const chosen = runs.map((one, index) => ({ ...one, index })).filter(({ index }) => index % SAMPLE === first)
  const failed = []
  await Promise.all(Array.from({ length: LANES }, async (_, number) => {
    const its = lane(number)
    for (let one = chosen.shift(); one; one = chosen.shift()) {
      const words = `${one.victim} at ${one.moment.toFixed(3)} of a ${one.operation}, then ${one.again ? "deployed again" : "left alone"}`
      const name = `k${one.index}`
      try {
        await run(its, one, name)
      } catch (error) {
        failed.push(`${words}: ${error.message}`)
        await (await alien.connect(its.options({ name })).catch(() => undefined))?.destroy()
      }
    }
  }))
  whole.sort((a, b) => a - b)
  const at = (share) => `${Math.round(whole[Math.floor((whole.length - 1) * share)])} ms`
  // A figure, which nothing hangs on: machines are of all kinds.
  if (SAMPLE === 1) process.stderr.write(`left alone ${whole.length} times: whole again after ${at(0.5)} (median), ${at(0.99)} (99 of 100), at most ${at(1)}\n`)
  expect(failed).toEqual([])
})
