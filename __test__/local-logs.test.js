"use strict"

// Reading a log: nothing lost, nothing twice, whatever was printed.

const fs = require("node:fs")
const path = require("node:path")
const { allLines, daemon, eventually, failure, stackOf, testBed, until } = require("./lib/bed.js")

const bed = testBed()
let image

beforeAll(async () => {
  image = await bed.image()
})

const deployed = (id, ...steps) => bed.deploy(stackOf(id, daemon("d", image, ...steps)))
const texts = async (deployment, options) => (await allLines(deployment, "d", options)).map(({ line }) => line)

test("tail and since choose; both together", async () => {
  const deployment = await deployed("choose", "print=1", "print=2", "wait=20", "print=3", "print=4", "ready")
  await until(deployment, "d", /^4$/)
  const all = await allLines(deployment, "d")
  expect(all.map(({ line }) => line)).toEqual(["1", "2", "3", "4"])
  expect(await texts(deployment, { tail: 2 })).toEqual(["3", "4"])
  expect(await texts(deployment, { tail: 0 })).toEqual([])
  expect(await texts(deployment, { tail: 100 })).toHaveLength(4)
  // The documented time is the line's own: asking for it gives it.
  expect(await texts(deployment, { since: all[2].time.slice(0, 23) + "Z" })).toEqual(["3", "4"])
  expect(await texts(deployment, { since: new Date(Date.parse(all[2].time)), tail: 1 })).toEqual(["4"])
  expect(await texts(deployment, { since: Date.now() + 60_000 })).toEqual([])
})

test("until chooses too: up to a moment, and following no longer than that", async () => {
  const deployment = await deployed("until", "print=1", "print=2", "wait=20", "print=3", "print=4", "ready", "tick=5")
  await until(deployment, "d", /^tick 2$/)
  const all = await allLines(deployment, "d")
  const second = new Date(Date.parse(all[1].time) + 1)
  expect(await texts(deployment, { until: second })).toEqual(["1", "2"])
  expect(await texts(deployment, { until: second, tail: 1 })).toEqual(["2"])
  expect(await texts(deployment, { until: second, tail: 1, follow: true })).toEqual(["2"])
  expect(await texts(deployment, { until: second, since: all[0].time, tail: 0 })).toEqual([])
  expect(await texts(deployment, { until: Date.parse(all[0].time) - 1 })).toEqual([])
  const soon = Date.now() + 200
  const followed = await allLines(deployment, "d", { follow: true, until: soon })
  expect(followed.length).toBeGreaterThan(all.length)
  expect(followed.every(({ time }) => Date.parse(time) <= soon)).toBe(true)
  const { code, stdout } = await bed.cli(["logs", "d", "-n", "until", "--until", second.toISOString()])
  expect({ code, stdout }).toEqual({ code: 0, stdout: "1\n2\n" })
  expect((await bed.cli(["logs", "d", "-n", "until", "--until", "soon"])).stderr).toMatch(/--until takes/)
})

test.each([
  ["until", { until: "tomorrow" }],
  ["tail", { tail: -1 }],
  ["since", { since: "yesterday" }],
  ["since", { since: {} }],
  ["follow", { follow: "yes" }],
  ["", { tial: 1 }],
])("a wrong %s is named", async (name, options) => {
  const deployment = await deployed("choose", "print=1", "print=2", "wait=20", "print=3", "print=4", "ready")
  const error = await failure(allLines(deployment, "d", options))
  expect(error).toMatchObject({ name: "ValidationError", issues: [{ path: name ? [name] : [] }] })
})

test("lines longer than 16 KiB come in parts", async () => {
  const deployment = await deployed("long", "long=40000", "print=after", "ready")
  await until(deployment, "d", /^after$/)
  const lines = await allLines(deployment, "d")
  const [after, ...parts] = lines.reverse()
  expect(after).toMatchObject({ line: "after" })
  expect(parts.reverse().map(({ partial = false }) => partial)).toEqual([...parts.slice(1).map(() => true), false])
  expect(parts.map(({ line }) => line).join("")).toBe("x".repeat(40_000))
  expect(Math.max(...parts.map(({ line }) => line.length))).toBe(16 * 1024)
})

test("bytes that are no UTF-8, empty lines and a last line without an end", async () => {
  const deployment = await deployed("bytes", "bytes", "print=", "print=ünïcödé 🦀", "err=wrong", "unended=no end", "ready", "wait=20", "exit=0")
  const lines = await until(deployment, "d", /^no end$/)
  expect(lines.filter((line) => line !== "wrong").slice(0, 4)).toEqual(["\ufffd\ufffd \0 \ufffd( end", "", "ünïcödé 🦀", "no end"])
  const { stream } = (await allLines(deployment, "d")).find(({ line }) => line === "wrong")
  expect(stream).toBe("stderr")
  await deployment.destroy()
})

test("following goes on over restarts and rotation; every line once, in order", async () => {
  const count = 150_000
  const deployment = await deployed("flood", "ready")
  const seen = []
  const controller = new AbortController()
  const reading = (async () => {
    for await (const { line } of deployment.logs("d", { follow: true, signal: controller.signal })) {
      seen.push(line)
      if (line === "third") return
    }
  })()
  await bed.deploy(stackOf("flood", daemon("d", image, "print=first", `flood=${count}`, "print=second", "ready")))
  await bed.deploy(stackOf("flood", daemon("d", image, "print=third", "ready")))
  await reading
  const numbers = seen.filter((line) => line.startsWith("flood ")).map((line) => Number(line.split(" ")[1]))
  expect(numbers.length).toBe(count)
  expect(numbers.every((number, index) => number === index + 1)).toBe(true)
  expect(seen.filter((line) => !line.startsWith("flood "))).toEqual(["first", "second", "third"])
  const files = fs.readdirSync(path.join(bed.stateDir, "deployments/flood/daemons/d/logs"))
  expect(files).toContain("daemon.log.1")
  // And what is on disk is the same.
  const again = await texts(deployment)
  expect(again.length).toBe(seen.length)
  expect(await texts(deployment, { tail: 3 })).toEqual([seen.at(-3), "second", "third"])
}, 60_000)

test("each line of the file is in the format of the CRI", async () => {
  await deployed("cri", "print=out", "err=err", "ready")
  const file = path.join(bed.stateDir, "deployments/cri/daemons/d/logs/daemon.log")
  const text = await eventually(() => fs.existsSync(file) && fs.readFileSync(file, "utf8"), (found) => found && found.split("\n").length === 3)
  expect(text.trim().split("\n").sort((a, b) => (a.slice(30) < b.slice(30) ? -1 : 1))).toEqual([
    expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z stderr F err$/),
    expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z stdout F out$/),
  ])
  expect((fs.statSync(file).mode & 0o777).toString(8)).toBe("600")
})
