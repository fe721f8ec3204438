// An image of 350 MB and 17,000 files from a registry on loopback, to a root that a container could be started in: time, and the
// most memory that was resident, and the time until all of it is on the disk, beside `docker pull`, `podman pull` and `skopeo
// copy` with `umoci unpack`. Most of our memory are the mapped files of Node and of the addon; what the process has of its own is
// told besides.
//
// All of it happens on a new ext4, each round has an image of its own, and nothing is removed before the end: ext4 gives out the
// numbers of files that were deleted in the last minutes only after a long search, and who comes after a removal pays for it.
//
//   node benches/pull.mjs [ROUNDS]        needs docker-registry, skopeo; docker.io, podman, umoci for the peers; root

import { spawn, spawnSync } from "node:child_process"
import { randomBytes } from "node:crypto"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { performance } from "node:perf_hooks"
import { closeWorkspace, docker, isThere, median, podman, program, root, run, spread, until, workspace } from "./support.mjs"

const rounds = Number(process.argv[2] ?? 5)
const LAYERS = 5
const FILES = 3400
const BYTES = 350e6
const place = mkdtempSync(join(tmpdir(), "ab-"))
const mounted = join(place, "m")
mkdirSync(mounted)
run("truncate", ["-s", "40G", join(place, "ext4")])
run("mkfs.ext4", ["-q", join(place, "ext4")])
run("mount", ["-o", "loop,noinit_itable", join(place, "ext4"), mounted])
process.env.TMPDIR = mounted
const space = await workspace()

/** Text and numbers, of which about half is left when it is compressed, as of programs. */
function contents(size) {
  const half = randomBytes(Math.ceil(size / 2))
  return Buffer.concat([half, Buffer.alloc(Math.max(0, size - half.length), "the quick brown fox jumps over the lazy dog\n")])
}

async function image(name) {
  const layers = []
  for (let layer = 0; layer < LAYERS; layer++) {
    const files = Array.from({ length: FILES }, (_, index) => {
      // Most files are small, and a few hold most of the bytes.
      const size = index % 100 === 0 ? Math.round((BYTES / LAYERS) * 0.8 / (FILES / 100)) : Math.round((BYTES / LAYERS) * 0.2 / (FILES * 0.99))
      return { path: `usr/share/l${layer}/d${index % 50}/f${index}`, data: contents(size) }
    })
    if (layer === 0) files.push({ path: "clock", from: program("clock"), mode: 0o755 })
    layers.push(await space.layout.layer(files, { compression: "gzip" }))
  }
  space.layout.image(name, layers, { Entrypoint: ["/clock"] })
  return `oci:${join(space.dir, "image")}:${name}`
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1")
  await new Promise((resolve) => server.once("listening", resolve))
  const { port } = server.address()
  await new Promise((resolve) => server.close(resolve))
  return port
}

const port = await freePort()
const registryDir = join(space.dir, "registry")
mkdirSync(registryDir)
writeFileSync(join(space.dir, "registry.yml"), `version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: ${registryDir}\nhttp:\n  addr: 127.0.0.1:${port}\n  secret: bench\n`)
const registry = spawn("docker-registry", ["serve", join(space.dir, "registry.yml")], { stdio: "ignore" })
await until(() => fetch(`http://127.0.0.1:${port}/v2/`).then(({ ok }) => ok, () => false))
const references = []
for (let round = 0; round < rounds; round++) {
  const reference = `127.0.0.1:${port}/bench/large:${round}`
  run("skopeo", ["copy", "--quiet", "--dest-tls-verify=false", await image(`large-${round}`), `docker://${reference}`])
  references.push(reference)
}
const bytes = Number(run("du", ["-sb", registryDir]).split("\t")[0]) / rounds

/** Seconds, and the most resident memory in MiB of a command and what it waited for (getrusage(2)). */
function timed(command, args, options) {
  const start = performance.now()
  const { status, stdout, stderr } = spawnSync("/usr/bin/env", ["time", "-f", "%M", command, ...args], { encoding: "utf8", ...options })
  if (status !== 0) throw new Error(`${command}: ${stderr}`)
  return { seconds: (performance.now() - start) / 1000, mebibytes: Number(stderr.trim().split("\n").at(-1)) / 1024, stdout }
}

const stateDir = join(space.dir, "pulled")
const peers = {
  alien(reference) {
    // Until the image is whole and on the disk; what follows, a daemon's start or its update, is another bench's.
    const script = `
      const { Daemon, Stack, deploy } = require(${JSON.stringify(root)})
      const daemon = new Daemon("d").code({ type: "image", image: ${JSON.stringify(reference)} }).permissions("none").build()
      deploy(new Stack("pull").add(daemon, "live").build(), { local: { stateDir: ${JSON.stringify(stateDir)} }, onEvent: ({ phase }) => {
        if (phase !== "ready") return
        console.log(require("node:fs").readFileSync("/proc/self/status", "utf8").match(/^RssAnon:\\s+(\\d+)/m)[1])
        process.exit(0)
      } })`
    const taken = timed(process.execPath, ["-e", script])
    return { ...taken, own: Number(taken.stdout) / 1024 }
  },
}
const engine = await docker(space)
if (engine) {
  peers["docker pull"] = (reference) => {
    const taken = timed("docker", [...engine.command.slice(1), "pull", "-q", reference])
    const pid = run("pgrep", ["-f", `dockerd --config-file ${space.dir}`]).split("\n").at(-1)
    taken.mebibytes = Number(readFileSync(`/proc/${pid}/status`, "utf8").match(/VmHWM:\s+(\d+)/)[1]) / 1024
    return taken
  }
}
const podmanEngine = podman(space)
if (podmanEngine) {
  peers["podman pull"] = (reference) => timed("podman", [...podmanEngine.command.slice(1), "pull", "-q", "--tls-verify=false", reference])
}
if (isThere("umoci")) {
  peers["skopeo, umoci"] = (reference) => {
    const dir = join(space.dir, "umoci", reference.split(":").at(-1))
    const script = `skopeo copy --quiet --src-tls-verify=false docker://${reference} oci:${dir}/layout:1 && umoci unpack --image ${dir}/layout:1 ${dir}/bundle`
    return timed("sh", ["-c", `mkdir -p ${dir} && ${script}`])
  }
}

const taken = Object.fromEntries(Object.keys(peers).map((name) => [name, []]))
run("sync", [])
for (const reference of references) {
  for (const [name, once] of Object.entries(peers)) {
    const one = once(reference)
    // What one has left to be written is not for the next to wait for; and only then is it an image that a loss of power leaves.
    const start = performance.now()
    run("sync", [])
    taken[name].push({ ...one, kept: one.seconds + (performance.now() - start) / 1000 })
  }
}
run(process.execPath, [join(root, "js/cli.js"), "destroy", "-n", "pull"], { env: { ...process.env, ALIEN_STATE_DIR: stateDir } })
registry.kill()
await engine?.stop()
podmanEngine?.stop()
const [own, ownKept] = ["seconds", "kept"].map((what) => median(taken.alien.map((one) => one[what])))
console.log(`${(BYTES / 1e6).toFixed(0)} MB in ${LAYERS * FILES} files, ${(bytes / 1e6).toFixed(0)} MB in the registry (goal: at least 2 × docker pull, at most 64 MiB)`)
for (const [name, all] of Object.entries(taken)) {
  const seconds = all.map(({ seconds }) => seconds)
  const kept = all.map(({ kept }) => kept)
  const most = Math.max(...all.map(({ mebibytes }) => mebibytes)).toFixed(0)
  console.log(`${name.padEnd(14)} ${spread(seconds)} s, ${(median(seconds) / own).toFixed(1)} ×, at most ${most} MiB; on the disk after ${spread(kept)} s, ${(median(kept) / ownKept).toFixed(1)} ×`)
}
const node = timed(process.execPath, ["-e", `require(${JSON.stringify(root)}).plan`])
console.log(`of these alien's own: ${Math.max(...taken.alien.map(({ own }) => own)).toFixed(0)} MiB`)
console.log(`node with the package, doing nothing: ${node.mebibytes.toFixed(0)} MiB`)
closeWorkspace(space)
run("umount", [mounted])
rmSync(place, { recursive: true })
