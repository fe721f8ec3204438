"use strict"

// `alien startup` on a machine that systemd has booted: what the unit keeps, stops and brings back, for root and for an
// ordinary account; and what `alien doctor` says of it.

const fs = require("node:fs")
const path = require("node:path")
const { eventually, needs, testBed, tool } = require("./lib/bed.js")
const { DATA, missingMachine, testMachine } = require("./lib/machine.js")

jest.setTimeout(120_000)

describe("on a machine that systemd has booted", () => {
  const missing = missingMachine()
  const { test } = needs(missing)
  let machine

  if (missing === undefined) {
    const bed = testBed()
    machine = testMachine(bed)
    beforeAll(async () => {
      await machine.boot()
      await (await tool("test-image.mjs")).testImage(path.join(machine.data, "image"))
      const code = `{ type: "image", image: "oci:${DATA}/image:1" }`
      const daemon = `new alien.Daemon("d").code(${code}).permissions("execution").command(["/bin/daemon", "count", "catch", "ready"])`
      const of = (id, more = "") => `const alien = require(${JSON.stringify(require.resolve("@alienplatform/core"))})\nmodule.exports = new alien.Stack("${id}").add(${daemon}${more}.build(), "live").build()\n`
      fs.writeFileSync(path.join(machine.data, "alien.js"), of("s"))
      fs.writeFileSync(path.join(machine.data, "limited.js"), of("limited", '.cpu("500m")'))
    }, 60_000)
  }

  /** Somebody there, with what they ask. */
  function somebody(who = {}) {
    const one = { ...who, env: who.user === undefined ? { ALIEN_STATE_DIR: `${DATA}/state` } : {} }
    const alien = async (...args) => {
      const answer = await machine.alien(args, one)
      if (answer.code !== 0) throw new Error(`alien ${args.join(" ")}: ${answer.stderr}`)
      return answer.stdout
    }
    const json = async (...args) => JSON.parse(await alien(...args, "--json"))
    const scope = who.user === undefined ? [] : ["--user"]
    return {
      alien,
      json,
      systemctl: (...args) => machine.run(["systemctl", ...scope, ...args], one),
      of: async (unit, name) => (await machine.run(["systemctl", ...scope, "show", "--value", `--property=${name}`, unit], one)).stdout.trim(),
      status: async (name = "s") => (await json("status", "-n", name)).resources[0],
      lines: async () => (await alien("logs", "-n", "s")).trim().split("\n"),
      running: () => eventually(async () => (await json("status", "-n", "s")).resources[0], ({ state }) => state === "running"),
      /** What doctor says of reboots. */
      async doctor() {
        const { checks, mended } = await json("doctor")
        const { status, issues } = checks.find(({ id }) => id === "startup")
        return { status, said: issues.map(({ message }) => message), hints: issues.map(({ hint }) => hint), mended }
      },
    }
  }

  test("root's daemons are back after every start, are kept by the unit, and stop with it", async () => {
    const root = somebody()
    await root.alien("deploy", "-f", `${DATA}/alien.js`)
    expect(await root.doctor()).toEqual({ status: "warning", said: ["no systemd unit brings the daemons back when this machine starts"], hints: [`\`alien startup --install --state-dir ${DATA}/state\``], mended: [] })
    const { unit, path: file, done, left } = await root.json("startup", "--install")
    expect({ file, done, left }).toEqual({ file: `/etc/systemd/system/${unit}`, done: ["systemctl daemon-reload", `systemctl enable --now ${unit}`], left: [] })
    expect(await root.doctor()).toMatchObject({ status: "passed", mended: [] })
    // Nothing of what systemd read was not to its liking.
    expect((await machine.run(["sh", "-c", `journalctl --boot --no-pager | grep -F /${unit}:`])).stdout).toBe("")

    // In order.
    await machine.off()
    await machine.boot()
    expect(await root.running()).toMatchObject({ restarts: 0 })
    expect(await root.lines()).toEqual(["run 1", "got SIGTERM", "done", "run 2"])

    // Whoever is the scanner: its end is nothing to the daemon, and the unit is up again.
    const { pid } = await root.status()
    const main = await root.of(unit, "MainPID")
    await machine.run(["kill", "-KILL", main])
    await eventually(async () => [await root.of(unit, "MainPID"), await root.of(unit, "ActiveState")], ([now, state]) => !["0", main].includes(now) && state === "active")
    expect(await root.status()).toMatchObject({ pid, state: "running", restarts: 0 })

    // By force.
    await machine.lose()
    await machine.boot()
    await root.running()
    expect((await root.lines()).slice(4)).toEqual(["run 3"])

    expect((await root.systemctl("stop", unit)).code).toBe(0)
    expect((await root.lines()).slice(5)).toEqual(["got SIGTERM", "done"])
    expect((await machine.run(["pgrep", "--full", "alien-supervisor"])).stdout).toBe("")
    expect((await root.systemctl("start", unit)).code).toBe(0)
    await root.running()

    // What is wrong with the unit is said.
    await root.systemctl("disable", unit)
    expect(await root.doctor()).toMatchObject({ status: "warning", said: [`${unit} is there, but disabled: nothing starts it with the machine`] })
    await machine.run(["sh", "-c", `sed -i s/RestartSec=1/RestartSec=7/ ${file}; systemctl daemon-reload; systemctl enable ${unit}`])
    expect(await root.doctor()).toMatchObject({ status: "warning", said: [`${file} is not what this version writes`] })
    await root.alien("startup", "--install")
    await machine.run(["rm", `${DATA}/state/bin/current`])
    expect(await root.doctor()).toMatchObject({ status: "passed", mended: [`${DATA}/state/bin/current/alien-supervisor was not there, which a unit of systemd runs`] })
    await root.alien("startup", "--uninstall")
    expect((await machine.run(["ls", "/etc/systemd/system", "/etc/systemd/system/multi-user.target.wants"])).stdout).not.toContain(unit)
    expect(await root.status()).toMatchObject({ state: "running" })
    await root.alien("destroy", "-n", "s")
  })

  test("an account's daemons are back without anybody logging in, once the machine lets its units linger", async () => {
    await machine.account("ann")
    const [ann, script] = [somebody({ user: "ann" }), somebody({ user: "ann", session: false })]
    await ann.alien("deploy", "-f", `${DATA}/alien.js`)
    // A machine without polkit lets nobody linger by themselves. The rest is done all the same.
    await machine.run(["systemctl", "mask", "--now", "polkit.service"])
    const refused = await machine.alien(["startup", "--install"], { user: "ann" })
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(/^error: `loginctl enable-linger ann` failed: .+\nhint: the unit is enabled, but runs only while you are logged in; as root: `loginctl enable-linger ann`\n/) })
    expect(await ann.doctor()).toMatchObject({ status: "warning", said: [expect.stringMatching(/^alien-\w+\.service runs only while you are logged in$/)], hints: ["`loginctl enable-linger ann`, if need be as root"] })
    await machine.run(["loginctl", "enable-linger", "ann"])
    // Nothing has told this one where the account's systemd is.
    const { unit, path: file, done } = await script.json("startup", "--install")
    expect({ file, done }).toEqual({ file: `${DATA}/ann/.config/systemd/user/${unit}`, done: ["systemctl --user daemon-reload", `systemctl --user enable --now ${unit}`] })
    expect(await script.doctor()).toMatchObject({ status: "passed", mended: [] })

    await machine.off()
    await machine.boot()
    await script.running()
    expect((await ann.lines()).filter((line) => line.startsWith("run"))).toEqual(["run 1", "run 2"])
    const [{ pid }, main] = [await ann.status(), await ann.of(unit, "MainPID")]
    await machine.run(["kill", "-KILL", main])
    await eventually(async () => [await ann.of(unit, "MainPID"), await ann.of(unit, "ActiveState")], ([now, state]) => !["0", main].includes(now) && state === "active")
    expect(await ann.status()).toMatchObject({ pid, state: "running" })
    expect((await ann.systemctl("stop", unit)).code).toBe(0)
    expect((await ann.lines()).slice(-3)).toEqual(["run 2", "got SIGTERM", "done"])
    expect((await ann.systemctl("start", unit)).code).toBe(0)
    await ann.running()

    // Where the machine has a processor's shares to hand on, they are the unit's to give.
    await ann.alien("deploy", "-f", `${DATA}/limited.js`)
    const { state, conditions } = await ann.status("limited")
    const controllers = (await machine.run(["cat", "/sys/fs/cgroup/cgroup.controllers"])).stdout
    expect([state, conditions.some(({ type }) => type === "LimitsEnforced")]).toEqual(["running", !/\bcpu\b/.test(controllers)])

    await script.alien("startup", "--uninstall")
    for (const name of ["s", "limited"]) await ann.alien("destroy", "-n", name)
    expect((await machine.run(["ls", "-A", path.dirname(file)])).stdout).not.toContain(unit)
    await machine.off()
  })
})
