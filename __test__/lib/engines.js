"use strict"

// Real container engines, each of one test file alone: its own data, its own socket, no network, and nothing of it left. Podman is
// also had by an ordinary user with subordinate ids, as one of his own.

const { spawn, spawnSync } = require("node:child_process")
const fs = require("node:fs")
const path = require("node:path")
const { authority } = require("./authority.js")
const { eventually, has, isAlive, isRoot, manyUsers, processesWith } = require("./bed.js")
const { freePort } = require("./registry.js")
const { program: builtDockerd } = require("../../tools/dockerd.cjs")

/** A slow machine's engine takes seconds to begin. */
const START = 60_000

/** What an engine needs. */
const PROGRAMS = { docker: ["dockerd", "containerd", "runc", "docker"], podman: ["podman", "conmon", "runc", "catatonit"] }

/** A dockerd that can keep its images in containerd's store: the machine's, or the one that tools/dockerd.cjs has built. */
const storing = () =>
  ["dockerd", builtDockerd].find((program) => {
    const { stdout } = spawnSync(program, ["--version"], { encoding: "utf8" })
    return Number(/version (\d+)/.exec(stdout)?.[1]) >= 25
  })

/**
 * Why this engine cannot be had here; undefined where it can.
 *
 * @param {"docker" | "podman"} name
 * @param {{containerdStore?: boolean}} how it keeps images; see `testEngine`
 */
function missingEngine(name, { containerdStore = false } = {}) {
  if (!isRoot && name === "docker") return "docker is tested as root"
  if (containerdStore && storing() === undefined) return "dockerd is older than 25, and no newer one was built (node tools/dockerd.cjs)"
  const absent = PROGRAMS[name].filter((program) => !has(program))
  if (absent.length > 0) return `${absent.join(", ")} is missing: apt install docker.io podman catatonit`
  if (!isRoot) return manyUsers() && has("newuidmap") ? undefined : "podman needs subordinate ids of an ordinary user: apt install uidmap"
  return spawnSync("unshare", ["--mount", "true"]).status === 0 ? undefined : "mounting is not allowed here"
}

/**
 * An engine that is started before the tests of this file, and stopped after its bed has destroyed its deployments.
 *
 * @param {"docker" | "podman"} name
 * @param {{folder: string, later: (close: () => unknown) => void}} bed
 * @param {{tcp?: boolean, tls?: boolean, containerdStore?: boolean}} how it is asked: at a port on loopback, there by TLS with
 *   the certificates of a folder, or by a socket's file; and whether Docker keeps its images in containerd's store
 */
function testEngine(name, bed, { tls = false, tcp = tls, containerdStore = false } = {}) {
  const folder = path.join(bed.folder, name)
  const file = (name) => path.join(folder, name)
  const group = path.basename(bed.folder)
  // Both look for their parts in /run, and locks are shared by name in /dev/shm: a mount namespace has its own of both.
  let holder
  let containerd
  let engine
  const secured = tls ? { DOCKER_TLS_VERIFY: "1", DOCKER_CERT_PATH: file("certificates") } : {}
  const own = isRoot ? {} : { HOME: folder, XDG_RUNTIME_DIR: file("user") }
  const env = { ...process.env, ...own, CONTAINERS_CONF: file("containers.conf"), CONTAINERS_STORAGE_CONF: file("storage.conf"), TMPDIR: folder, DOCKER_CONFIG: folder, ...secured, DOCKER_HOST: `unix://${file("sock")}` }
  // What an ordinary user's Podman has there is below his own folders.
  const within = (command) => (isRoot ? ["nsenter", "--mount", `--target=${holder.pid}`, ...command] : command)
  const begin = (command, log) => {
    const [program, ...args] = within(command)
    return spawn(program, args, { stdio: ["ignore", log, log], env })
  }
  const its = {
    /** As in `DOCKER_HOST`. */
    get host() {
      return env.DOCKER_HOST
    },
    /** The address with all that belongs to it. */
    get address() {
      return tls ? `${its.host.replace("tcp:", "tls:")}${its.certificates}` : its.host
    },
    /** The folder of `ca.pem`, `cert.pem` and `key.pem`, where it is asked by TLS. */
    certificates: secured.DOCKER_CERT_PATH,
    /** Runs the engine's own command: what it prints. */
    run(...args) {
      const command = name === "docker" ? ["docker", ...args] : ["podman", ...args]
      const [program, ...rest] = within(command)
      const { status, stdout, stderr } = spawnSync(program, rest, { encoding: "utf8", env })
      if (status !== 0) throw new Error(`${command.join(" ")}: ${stderr}`)
      return stdout.trim()
    },
    async start() {
      const log = fs.openSync(file("log"), "a")
      // As on a real machine, it is nobody's child, and outlives dockerd.
      if (name === "docker" && containerd === undefined) {
        const places = ["--root", file("images"), "--state", file("state"), "--address", file("containerd.sock")]
        containerd = begin(["containerd", ...places], log)
        await eventually(() => fs.existsSync(file("containerd.sock")), Boolean, START)
      }
      const command = name === "docker" ? dockerd(file, { group, host: its.host, tls, containerdStore }) : ["podman", "system", "service", "--time=0", env.DOCKER_HOST]
      engine = begin(command, log)
      fs.closeSync(log)
      const at = (name) => path.join(file("certificates"), name)
      const shown = tls ? ["--cacert", at("ca.pem"), "--cert", at("cert.pem"), "--key", at("key.pem")] : []
      const version = tcp ? `${its.host.replace("tcp:", tls ? "https:" : "http:")}/version` : "http://engine/version"
      const via = tcp ? shown : ["--unix-socket", file("sock")]
      const answers = () => spawnSync("curl", ["-sf", ...via, version]).status === 0
      await eventually(() => engine.exitCode !== null || answers(), Boolean, START)
      if (engine.exitCode !== null) throw new Error(`${command[0]}: ${fs.readFileSync(file("log"), "utf8").slice(-2000)}`)
    },
    /** Ends it: killed, or asked to. */
    async stop(signal) {
      const ended = new Promise((resolve) => engine.once("exit", resolve))
      // An ordinary user's Podman is two processes, one of which is within his user namespace and outlives the other's being killed.
      const service = processesWith(`podman system service --time=0 ${its.host}`).map(({ pid }) => pid)
      for (const pid of name === "podman" ? service : [engine.pid]) process.kill(pid, signal)
      await ended
      await eventually(() => service.filter(isAlive), (left) => left.length === 0)
    },
  }
  beforeAll(async () => {
    fs.mkdirSync(folder)
    if (tcp) env.DOCKER_HOST = `tcp://127.0.0.1:${await freePort()}`
    if (tls) makeCertificates(its.certificates)
    fs.writeFileSync(file("config.json"), "{}")
    // Namespaces of time are news to Debian's runc.
    const features = containerdStore ? { "containerd-snapshotter": true, "time-namespaces": false } : {}
    fs.writeFileSync(file("daemon.json"), JSON.stringify({ features }))
    // The limits are those of a container that root may not raise any; what else differs is only where things are.
    fs.writeFileSync(file("containers.conf"), `[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=30000:30000"]\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nexit_command_delay = 1\nruntime = "runc"\n`)
    fs.writeFileSync(file("storage.conf"), `[storage]\ndriver = "overlay"\nrunroot = "${file("run")}"\ngraphroot = "${file("data")}"\nrootless_storage_path = "${file("data")}"\n`)
    if (!isRoot) {
      fs.mkdirSync(file("user"), { mode: 0o700 })
      return its.start()
    }
    holder = spawn("unshare", ["--mount", "--propagation", "private", "sh", "-c", "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /dev/shm && echo held && exec sleep infinity"], { stdio: ["ignore", "pipe", "ignore"] })
    await new Promise((resolve) => holder.stdout.once("data", resolve))
    await its.start()
  }, 2 * START)
  bed.later(async () => {
    if (holder === undefined && engine === undefined) return
    if (engine !== undefined && engine.exitCode === null && engine.signalCode === null) await its.stop("SIGTERM")
    if (containerd !== undefined) {
      const over = new Promise((resolve) => containerd.once("exit", resolve))
      containerd.kill("SIGTERM")
      await over
    }
    await eventually(() => processesWith(folder).filter(({ pid }) => pid !== holder?.pid), (left) => left.length === 0)
    if (!isRoot) {
      // Of what keeps his user namespace.
      its.run("system", "migrate")
      return
    }
    const ended = new Promise((resolve) => holder.once("exit", resolve))
    holder.kill("SIGKILL")
    await ended
    removeGroups(name === "docker" ? group : "libpod_parent")
  })
  return its
}

function dockerd(file, { group, host, tls, containerdStore }) {
  const places = ["--config-file", file("daemon.json"), "--data-root", file("data"), "--exec-root", file("exec"), "--containerd", file("containerd.sock"), "--pidfile", file("pid"), "--host", host]
  const at = (name) => path.join(file("certificates"), name)
  const secured = ["--tlsverify", "--tlscacert", at("ca.pem"), "--tlscert", at("server.pem"), "--tlskey", at("server.key")]
  // Said aloud, it does not wait a while over what it thinks of a port without TLS.
  const port = tls ? secured : host.startsWith("tcp:") ? ["--tls=false"] : []
  const store = containerdStore ? [] : ["--storage-driver=overlay2"]
  const alone = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
  return [containerdStore ? storing() : "dockerd", ...places, ...store, "--live-restore", `--cgroup-parent=/${group}`, ...port, ...alone]
}

/** Those of an authority, of an engine and of who asks it. */
function makeCertificates(folder) {
  fs.mkdirSync(folder)
  const { issue } = authority(folder)
  for (const [serial, names] of [["server.pem", "server.key"], ["cert.pem", "key.pem"]].entries()) {
    const { certificate, key } = issue(serial + 1)
    fs.writeFileSync(path.join(folder, names[0]), certificate)
    fs.writeFileSync(path.join(folder, names[1]), key, { mode: 0o600 })
  }
}

/** Removes the engine's own control groups, where nothing is left in them. */
function removeGroups(name) {
  const root = "/sys/fs/cgroup"
  for (const dir of [root, ...fs.readdirSync(root).map((hierarchy) => path.join(root, hierarchy))]) {
    spawnSync("sh", ["-c", 'find "$1" -depth -type d -exec rmdir {} + 2>/dev/null', "sh", path.join(dir, name)])
  }
}

module.exports = { missingEngine, testEngine }
