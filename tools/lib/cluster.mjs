// A real Kubernetes for tests (tests/cluster): its program, built once and kept outside the clone, and running clusters.

import { spawn, spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { accessSync, constants, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { cacheDir } from "./cache.cjs"

const sources = join(dirname(fileURLToPath(import.meta.url)), "../../tests/cluster")
/** Which Kubernetes the modules in go.mod are; the components ask for it to be stamped. */
const VERSION = "v1.34.1"
/** A first build compiles all of Kubernetes. */
const BUILD_MINUTES = 40
/** A cluster is usable after 5 to 10 seconds; beside other work later. */
const START_MS = 180_000

const PROGRAMS = ["containerd", "ctr", "runc", "ip", "nft", "conntrack"]
const PLUGINS = ["bridge", "host-local", "loopback"]

/** Where the program for these sources is, or will be. */
export function programPath() {
  const hash = createHash("sha256")
  const files = readdirSync(sources, { recursive: true }).map(String).filter((file) => statSync(join(sources, file)).isFile()).sort()
  for (const file of files) hash.update(file).update("\0").update(readFileSync(join(sources, file)))
  return join(cacheDir(), `cluster-${hash.digest("hex").slice(0, 16)}`, "cluster")
}

/** Builds the program where it is not there yet. Safe from several processes at once: the first one to end wins. */
export function buildCluster() {
  const program = programPath()
  if (existsSync(program)) return program
  mkdirSync(dirname(dirname(program)), { recursive: true })
  const aside = mkdtempSync(`${dirname(program)}-`)
  const X = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"]
  const stamps = X.flatMap((name) => [`-X ${name}.gitVersion=${VERSION}`, `-X ${name}.gitMajor=1`, `-X ${name}.gitMinor=34`])
  const go = (flags, output, target) => {
    const { status, error } = spawnSync("go", ["build", "-trimpath", `-ldflags=-s -w ${flags}`, "-o", output, target], {
      cwd: sources,
      env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=mod" },
      stdio: ["ignore", "inherit", "inherit"],
      timeout: BUILD_MINUTES * 60_000,
    })
    if (status !== 0) throw new Error(`the test cluster cannot be built: ${error?.message ?? `go build ended with ${status}`}`)
  }
  try {
    go("", join(aside, "pause"), "./pause")
    go(stamps.join(" "), join(aside, "cluster"), ".")
    renameSync(aside, dirname(program))
  } catch (error) {
    rmSync(aside, { recursive: true, force: true })
    if (!existsSync(program)) throw error
  }
  return program
}

/** Why no cluster can run here; undefined where one can. */
export function missing() {
  if (process.env.ALIEN_TEST_KUBECONFIG) return undefined
  if (process.platform !== "linux" || process.geteuid() !== 0) return "a test cluster needs Linux and root (or ALIEN_TEST_KUBECONFIG)"
  const absent = PROGRAMS.filter((program) => which(program) === undefined)
  absent.push(...PLUGINS.map((name) => `/usr/lib/cni/${name}`).filter((path) => !existsSync(path)))
  if (absent.length > 0) return `a test cluster needs ${absent.join(", ")}: apt-get install containerd runc containernetworking-plugins nftables iproute2 conntrack`
  if (!existsSync(programPath()) && which("go") === undefined) return "a test cluster is built with Go, which is missing"
  return undefined
}

function which(program) {
  const dirs = (process.env.PATH ?? "").split(":").concat("/usr/local/sbin", "/usr/sbin", "/sbin")
  return dirs.map((dir) => join(dir, program)).find((path) => {
    try {
      accessSync(path, constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/**
 * Starts a cluster, or takes the one that ALIEN_TEST_KUBECONFIG names.
 *
 * @param {{dir?: string}} [options] the folder is made where it is missing, and removed at the end
 */
export async function startCluster({ dir } = {}) {
  if (process.env.ALIEN_TEST_KUBECONFIG) return given(process.env.ALIEN_TEST_KUBECONFIG)
  const program = buildCluster()
  const folder = dir ?? mkdtempSync(join(tmpdir(), "alien-cluster-"))
  const child = spawn(program, ["up", folder], { stdio: ["pipe", "pipe", "pipe"] })
  let said = ""
  child.stderr.setEncoding("utf8").on("data", (text) => (said += text))
  const ended = new Promise((resolve) => child.on("close", resolve))
  const line = await new Promise((resolve, reject) => {
    const late = setTimeout(() => (child.kill("SIGTERM"), reject(new Error(`the cluster was not usable within ${START_MS} ms: ${said}`))), START_MS)
    createInterface(child.stdout).once("line", (line) => (clearTimeout(late), resolve(line)))
    ended.then((code) => (clearTimeout(late), reject(new Error(`the cluster ended with ${code}: ${said}`))))
  })
  const facts = JSON.parse(line)
  // A test that forgets it does not keep Jest alive; the cluster ends when this process does.
  child.unref()
  for (const stream of [child.stdin, child.stdout, child.stderr]) stream.unref()
  return {
    ...facts,
    program,
    pid: child.pid,
    component: (name, action) => check(spawnSync(program, ["component", folder, name, action], { encoding: "utf8" }), `${name} ${action}`),
    close: async () => {
      child.stdin.end()
      const code = await ended
      if (code !== 0) throw new Error(`the cluster ended with ${code}: ${said}`)
    },
  }
}

/** kubectl of the cluster's version, against a kubeconfig: `{code, stdout, stderr}`. */
export function kubectl(cluster, args, { input, namespace } = {}) {
  const words = [...(namespace ? ["--namespace", namespace] : []), ...args]
  const [program, first] = cluster.program ? [cluster.program, ["kubectl"]] : ["kubectl", []]
  const env = { PATH: process.env.PATH, HOME: cluster.dir ?? process.env.HOME, KUBECONFIG: cluster.kubeconfig }
  return new Promise((resolve, reject) => {
    const child = spawn(program, [...first, ...words], { env, stdio: ["pipe", "pipe", "pipe"] })
    const out = { stdout: "", stderr: "" }
    child.stdout.setEncoding("utf8").on("data", (text) => (out.stdout += text))
    child.stderr.setEncoding("utf8").on("data", (text) => (out.stderr += text))
    child.on("error", reject).on("close", (code) => resolve({ code, ...out }))
    // It may end before it has read all of it.
    child.stdin.on("error", () => {}).end(input ?? "")
  })
}

function check({ status, stdout, stderr, error }, what) {
  if (status !== 0) throw new Error(`${what}: ${error?.message ?? stderr}`)
  return stdout
}

/**
 * A cluster that somebody else runs: no faults, and images from ALIEN_TEST_HOST_ADDRESS, where its nodes have to reach
 * this machine. kubectl is the tests' own where that was built, else the machine's.
 */
function given(kubeconfig) {
  const program = existsSync(programPath()) ? programPath() : undefined
  return { kubeconfig, program, component: undefined, hostAddress: process.env.ALIEN_TEST_HOST_ADDRESS ?? "127.0.0.1", close: async () => {} }
}
