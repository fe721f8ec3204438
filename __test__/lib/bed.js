"use strict"

// What every test that really deploys needs: a state directory of its own, images, waiting without sleeping, and the
// proof that nothing is left.

const { spawn, spawnSync } = require("node:child_process")
const { randomBytes } = require("node:crypto")
const fs = require("node:fs")
const os = require("node:os")
const path = require("node:path")
const { pathToFileURL } = require("node:url")
const alien = require("@alienplatform/core")

const root = path.join(__dirname, "../..")
const isRoot = process.geteuid() === 0
/** Nothing here takes a tenth of it, unless something is wrong. */
const DEADLINE = 20_000

/** One of tools/lib's modules. */
const tool = (name) => globalThis.nativeImport(pathToFileURL(path.join(root, "tools/lib", name)).href)

/**
 * Asks until the answer is one that `wanted` accepts, and gives it. For what nobody tells; logs and events are followed.
 *
 * @template T
 * @param {() => Promise<T> | T} ask
 * @param {(answer: T) => unknown} [wanted]
 */
async function eventually(ask, wanted = Boolean, deadline = DEADLINE) {
  const end = Date.now() + deadline
  for (;;) {
    const answer = await ask()
    if (wanted(answer)) return answer
    if (Date.now() > end) throw new Error(`not so within ${deadline} ms; the last answer was ${JSON.stringify(answer, null, 1)}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** Whether a process is there and not just waiting to be reaped. */
function isAlive(pid) {
  try {
    return !/^State:\s*[ZX]/m.test(fs.readFileSync(`/proc/${pid}/status`, "utf8"))
  } catch {
    return false
  }
}

/**
 * Processes whose command line holds `text`: `[{pid, command}]`. One that is just being executed has none for a moment; what
 * is executed counts then.
 */
function processesWith(text) {
  return fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid).flatMap((pid) => {
    try {
      const command = fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim() || fs.readlinkSync(`/proc/${pid}/exe`)
      return command.includes(text) && isAlive(pid) ? [{ pid: Number(pid), command }] : []
    } catch {
      return []
    }
  })
}

const mountsBelow = (dir) => fs.readFileSync("/proc/self/mountinfo", "utf8").split("\n").filter((line) => line.split(" ")[4]?.startsWith(dir))

/** Removes a folder, also where files in it belong to this account's subordinate ids. Never across a mount. */
function removeTree(dir) {
  if (mountsBelow(dir).length > 0) throw new Error(`there is a mount below ${dir}`)
  try {
    fs.rmSync(dir, { recursive: true, force: true })
  } catch (error) {
    if (error.code !== "EACCES" && error.code !== "EPERM" && error.code !== "ENOTEMPTY") throw error
    const { status, stderr } = spawnSync("unshare", ["--map-auto", "--map-root-user", "rm", "-rf", "--one-file-system", dir], { encoding: "utf8" })
    if (status !== 0) throw new Error(`${dir} cannot be removed: ${stderr}`)
  }
}

/** The path of a folder that is made before the file's first test: where all are skipped, nothing is left of it. */
function testFolder(prefix = "alien-test-") {
  // As short as mkdtemp's: an ordinary user's Podman has sockets far below it, whose paths may have 107 bytes (unix(7)).
  const folder = path.join(os.tmpdir(), prefix + randomBytes(4).toString("base64url"))
  beforeAll(() => fs.mkdirSync(folder, { mode: 0o700 }))
  return folder
}

/**
 * A state directory for one test file. At the file's end its deployments are destroyed, and nothing may be left of them:
 * no process, no mount, no file.
 */
function testBed() {
  const folder = testFolder()
  const stateDir = path.join(folder, "state")
  const seen = new Set()
  let images = 0
  const closers = []

  const bed = {
    folder,
    stateDir,
    options: (more = {}) => ({ platform: "local", ...more, local: { stateDir, dockerConfig: path.join(folder, "no-credentials.json"), ...more.local } }),
    /** An image of the tests' program; see tools/lib/test-image.mjs. Gives `oci:DIR:TAG`. */
    async image(options) {
      return (await tool("test-image.mjs")).testImage(path.join(folder, `image-${++images}`), options)
    },
    /** A deployment of daemons (`{id: builder}` or built resources), recorded so that its end is checked. */
    async deploy(stack, more) {
      const deployment = await alien.deploy(stack, bed.options(more))
      await bed.note(deployment)
      return deployment
    },
    async note(deployment) {
      for (const { pid } of (await deployment.status()).resources) if (pid) seen.add(pid)
    },
    /** The status of one resource. */
    async one(deployment, id) {
      const found = (await deployment.status()).resources.find((resource) => resource.id === id)
      if (found?.pid) seen.add(found.pid)
      return found
    },
    /** Called at the end, last one first. */
    later: (close) => closers.push(close),
    /** Supervisors and scanner of this state directory. */
    helpers: () => processesWith(stateDir).filter(({ command }) => command.includes("alien-supervisor")),
    /** The `alien` command: `{code, stdout, stderr}`. */
    cli: (args, options) => cli(args, { ...options, env: { ALIEN_STATE_DIR: stateDir, ...options?.env } }),
  }

  afterAll(async () => {
    for (const name of await alien.deployments(bed.options())) {
      const deployment = await alien.connect(bed.options({ name }))
      await bed.note(deployment)
      await deployment.destroy({ timeoutMs: DEADLINE })
    }
    for (const close of closers.reverse()) await close()
    // The scanner ends by itself once it has nothing left to keep.
    await eventually(() => processesWith(stateDir), (left) => left.length === 0)
    expect({ alive: [...seen].filter(isAlive), mounts: mountsBelow(folder) }).toEqual({ alive: [], mounts: [] })
    removeTree(folder)
  }, 2 * DEADLINE)

  return bed
}

/** A daemon that does these steps (tests/programs/daemon.rs). */
const daemon = (id, image, ...steps) => {
  const builder = new alien.Daemon(id).code({ type: "image", image }).permissions("execution")
  return steps.length > 0 ? builder.command(["/bin/daemon", ...steps]) : builder
}

/** A stack of daemons and other resources; builders are built. */
function stackOf(id, ...resources) {
  const stack = new alien.Stack(id)
  for (const resource of resources) stack.add(resource instanceof alien.Resource ? resource : resource.build(), "live")
  return stack.build()
}

/** Every line that is there. */
async function allLines(deployment, id, options) {
  const lines = []
  for await (const line of deployment.logs(id, options)) lines.push(line)
  return lines
}

/** Follows the log until `count` lines match, and gives all lines up to there. */
async function until(deployment, id, pattern, count = 1, options = {}) {
  const lines = []
  let matched = 0
  const signal = AbortSignal.timeout(DEADLINE)
  try {
    for await (const { line } of deployment.logs(id, { follow: true, signal, ...options })) {
      lines.push(line)
      if (pattern.test(line) && ++matched === count) return lines
    }
  } catch (error) {
    if (!signal.aborted) throw error
  }
  throw new Error(`${count} × ${pattern} has not come; the log of ${id}:\n${lines.slice(-50).join("\n")}`)
}

/** What a promise is rejected with; it must be. */
async function failure(promise) {
  let value
  try {
    value = await promise
  } catch (error) {
    return error
  }
  throw new Error(`nothing was thrown; it gave ${JSON.stringify(value)}`)
}

/**
 * Declares tests that do not touch each other and mostly wait, in a `describe` of their own: they are begun together.
 *
 * @param {Record<string, () => Promise<void>>} tests
 */
function together(tests) {
  const running = {}
  beforeAll(() => {
    for (const [name, run] of Object.entries(tests)) {
      running[name] = run()
      // Its own test reports it, when it comes to that.
      running[name].catch(() => {})
    }
  })
  test.each(Object.keys(tests))("%s", (name) => running[name])
}

/** Starts the `alien` command; with the folder, the environment and, where wanted, the program of one's own. */
function startCli(args, { cwd = root, env = {}, via = [], stdin = "ignore", deadline = DEADLINE } = {}) {
  const cache = env.ALIEN_STATE_DIR === undefined ? "/dev/null" : `${env.ALIEN_STATE_DIR}.cache`
  const clean = { PATH: process.env.PATH, HOME: process.env.HOME, XDG_CACHE_HOME: cache, ...env }
  const [program, ...rest] = [...via, process.execPath, path.join(root, "js/cli.js"), ...args]
  const child = spawn(program, rest, { cwd, env: clean, stdio: [stdin, "pipe", "pipe"] })
  const out = { stdout: "", stderr: "" }
  child.stdout.setEncoding("utf8").on("data", (text) => (out.stdout += text))
  child.stderr.setEncoding("utf8").on("data", (text) => (out.stderr += text))
  const killer = setTimeout(() => child.kill("SIGKILL"), deadline)
  const ended = new Promise((resolve) => child.on("close", (code, signal) => (clearTimeout(killer), resolve({ code: code ?? signal, ...out }))))
  return { child, out, ended }
}

const cli = (args, options) => startCli(args, options).ended

/** Tests of something that may be missing: skipped with the reason, or failed where everything has to be there. */
function needs(missing) {
  if (!missing) return { test, describe }
  if (process.env.ALIEN_TEST_REQUIRE === "all") {
    const fail = (name) => test(name, () => Promise.reject(new Error(`ALIEN_TEST_REQUIRE=all, but ${missing}`)))
    return { test: fail, describe: fail }
  }
  return { test: (name) => test.skip(`${name} (${missing})`, () => {}), describe: (name) => test.skip(`${name} (${missing})`, () => {}) }
}

/** Tests of what only one kind of account (root, with or without subordinate ids) can show: not there for the others. */
const where = (applies) => (applies ? { test, describe } : { test: () => {}, describe: () => {} })

/** Whether this account may give sandboxes more than one user (subuid(5)). */
function manyUsers() {
  if (isRoot) return true
  const { username, uid } = os.userInfo()
  return fs.existsSync("/etc/subuid") && new RegExp(`^(${username}|${uid}):`, "m").test(fs.readFileSync("/etc/subuid", "utf8"))
}

const has = (program) => (process.env.PATH ?? "").split(":").concat("/usr/sbin", "/sbin").some((dir) => fs.existsSync(path.join(dir, program)))

module.exports = {
  DEADLINE, allLines, cli, daemon, eventually, failure, has, isAlive, isRoot, manyUsers, mountsBelow, needs, processesWith, removeTree,
  root, stackOf, startCli, testBed, testFolder, together, tool, until, where,
}
