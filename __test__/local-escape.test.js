"use strict"

// The sandbox, tried from inside: what a program that wants out reaches, beside the same program in a container of a real
// Docker engine with its defaults.

const { spawnSync } = require("node:child_process")
const alien = require("@alienplatform/core")
const { allLines, daemon, needs, stackOf, testBed, tool, until } = require("./lib/bed.js")
const { missingEngine, testEngine } = require("./lib/engines.js")

jest.setTimeout(120_000)

const bed = testBed()
let image

beforeAll(async () => {
  const { testProgram } = await tool("test-image.mjs")
  image = await bed.image({ files: [{ path: "tmp/", type: "dir", mode: 0o1777 }, { path: "bin/escape", from: testProgram("escape"), mode: 0o755 }] })
})

/** The attempts that went through, by name, and how many there were. */
function report(lines) {
  const attempts = lines.flatMap((line) => line.match(/^(.+): (reached|refused)$/)?.slice(1) ?? []).reduce((pairs, word, index, all) => (index % 2 === 0 ? [...pairs, [word, all[index + 1]]] : pairs), [])
  return { count: attempts.length, reached: attempts.filter(([, outcome]) => outcome === "reached").map(([name]) => name) }
}

/** What a daemon reaches. It stays for a while, so that the report is not that of a crash. */
async function inside(name) {
  const deployment = await bed.deploy(stackOf(name, daemon("d", image, "print=up", "ready")))
  await until(deployment, "d", /^up$/)
  const { code, stdout } = await deployment.exec("d", ["/bin/escape"])
  expect(code).toBe(0)
  return report(stdout.split("\n"))
}

test("a daemon's own program reaches what one beside it does", async () => {
  const escape = new alien.Daemon("d").code({ type: "image", image }).command(["/bin/escape"]).permissions("execution")
  const error = await bed.deploy(stackOf("own", escape)).catch((error) => error)
  expect(error).toMatchObject({ code: "DAEMON_NOT_UP", context: { lastExit: { code: 0 } } })
  const deployment = await alien.connect(bed.options({ name: "own" }))
  const lines = (await allLines(deployment, "d")).map(({ line }) => line)
  await deployment.destroy()
  const beside = await inside("beside")
  const own = report(lines.slice(0, beside.count))
  expect(own).toEqual(beside)
  expect(own.count).toBeGreaterThan(100)
})

test("no way out is open", async () => {
  const { reached } = await inside("closed")
  // What is left is a program's business with what is its own: capabilities over its own user namespace, sockets of the
  // network that it shares, its own root, and how soon its own init is killed for want of memory.
  const own = /^capability |socket$|^vsock|^netlink audit|^change the root|^make a program setuid|^write \/proc\/1\/oom_score_adj|^personality/
  expect(reached.filter((name) => !own.test(name))).toEqual([])
})

needs(missingEngine("docker")).describe("beside docker run", () => {
  const engine = testEngine("docker", bed)

  test("nothing is reached that is not reached in a container", async () => {
    const copied = spawnSync("skopeo", ["copy", "--quiet", "--dest-daemon-host", engine.host, image, "docker-daemon:escape:1"], { encoding: "utf8" })
    expect(copied.stderr).toBe("")
    const container = report(engine.run("run", "--rm", "--init", "--network", "host", "--security-opt", "no-new-privileges", "--entrypoint", "/bin/escape", "escape:1").split("\n"))
    const ours = await inside("compared")
    expect(ours.count).toBe(container.count)
    expect(ours.reached.filter((name) => !container.reached.includes(name))).toEqual([])
  })
})
