"use strict"

// The tests' own Kubernetes: two of them do not meet, one that is killed leaves nothing, and one that is there already
// is used with care.

const { spawn } = require("node:child_process")
const fs = require("node:fs")
const os = require("node:os")
const path = require("node:path")
const { eventually, isAlive, mountsBelow, needs, processesWith, root, tool } = require("./lib/bed.js")
const { missing } = require("./lib/cluster.js")

jest.setTimeout(240_000)

const given = process.env.ALIEN_TEST_KUBECONFIG !== undefined && "ALIEN_TEST_KUBECONFIG names the only cluster"
needs(missing() ?? (given || undefined)).describe("a test cluster", () => {
  let lib
  const running = []

  beforeAll(async () => {
    lib = await tool("cluster.mjs")
  })
  afterAll(() => Promise.all(running.map((cluster) => cluster.close())))

  async function start() {
    const cluster = await lib.startCluster()
    running.push(cluster)
    return cluster
  }
  const kubectl = async (cluster, ...args) => {
    const { code, stdout, stderr } = await lib.kubectl(cluster, args)
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
    return stdout
  }
  /** The folders of cgroups with this name, in every hierarchy. */
  const cgroups = (name) => ["", ...fs.readdirSync("/sys/fs/cgroup")].map((hierarchy) => path.join("/sys/fs/cgroup", hierarchy, name)).filter((dir) => fs.existsSync(dir))
  /** Whether a cluster that began later has its number, and with that the names that go by it (tests/cluster/slot.go). */
  function isTaken({ dir, cgroup }) {
    const file = path.join("/run/alien-test-cluster", cgroup.match(/\d+$/)[0])
    return fs.existsSync(file) && !fs.readFileSync(file, "utf8").includes(JSON.stringify(dir))
  }
  /** What there is of a cluster outside of it. */
  const left = (cluster) => ({
    folder: fs.existsSync(cluster.dir),
    processes: processesWith(cluster.dir).map(({ command }) => command),
    mounts: mountsBelow(cluster.dir),
    cgroups: isTaken(cluster) ? [] : cgroups(cluster.cgroup),
    addresses: isTaken(cluster) ? 0 : Object.values(os.networkInterfaces()).flat().filter(({ address }) => address === cluster.hostAddress).length,
  })
  const NOTHING = { folder: false, processes: [], mounts: [], cgroups: [], addresses: 0 }

  test("beside another one: each has its own objects, addresses and folders; one that is killed is swept by the next", async () => {
    const [one, two] = await Promise.all([start(), start()])
    for (const fact of ["dir", "server", "hostAddress", "cgroup", "kubeconfig"]) expect(one[fact]).not.toBe(two[fact])
    await kubectl(one, "create", "namespace", "mine")
    expect((await kubectl(two, "get", "namespaces", "-o", "name")).split("\n")).not.toContain("namespace/mine")
    const inOne = await kubectl(one, "create", "token", "default")
    const stranger = await lib.kubectl(two, ["auth", "whoami", "--token", inOne.trim(), "--kubeconfig", "/dev/null", "--server", two.server, "--insecure-skip-tls-verify"])
    expect(stranger).toMatchObject({ code: 1, stderr: expect.stringContaining("Unauthorized") })

    process.kill(one.pid, "SIGKILL")
    running.splice(running.indexOf(one), 1)
    await eventually(() => isAlive(one.pid), (alive) => !alive)
    await start()
    expect(left(one)).toEqual(NOTHING)
    // The other one has not noticed.
    expect(await kubectl(two, "get", "--raw", "/readyz")).toBe("ok")
    for (const cluster of running.splice(0)) {
      await cluster.close()
      expect(left(cluster)).toEqual(NOTHING)
    }
  })

  test("that is there already is used in a namespace of its own, and left as it was", async () => {
    const cluster = await start()
    const namespaces = async () => (await kubectl(cluster, "get", "namespaces", "-o", "name")).trim().split("\n")
    const before = await namespaces()
    const jest = path.join(root, "node_modules/jest/bin/jest.js")
    const args = [jest, "--rootDir", root, "--runTestsByPath", path.join(__dirname, "kubernetes.test.js"), "-t", "removes what left the stack"]
    const env = { ...process.env, ALIEN_TEST_KUBECONFIG: cluster.kubeconfig, ALIEN_TEST_HOST_ADDRESS: cluster.hostAddress }
    const child = spawn(process.execPath, args, { cwd: root, env, stdio: ["ignore", "ignore", "pipe"] })
    let said = ""
    child.stderr.setEncoding("utf8").on("data", (text) => (said += text))
    const seen = new Set()
    const ended = new Promise((resolve) => child.on("close", resolve))
    const watching = eventually(async () => {
      for (const name of await namespaces()) if (!before.includes(name)) seen.add(name)
      return child.exitCode
    }, (code) => code !== null, 120_000)
    const [code] = await Promise.all([ended, watching])
    expect({ code, said }).toEqual({ code: 0, said: expect.stringMatching(/Tests: .*1 passed/) })
    expect([...seen]).toEqual([expect.stringMatching(/^namespace\/alien-test-[0-9a-f]{8}$/)])
    expect(await namespaces()).toEqual(before)
  })
})
