"use strict"

// Vaults on this machine: filled by the command, read by the daemons that are linked to them and by nobody else.

const fs = require("node:fs")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { allLines, daemon, isRoot, manyUsers, stackOf, startCli, testBed, until, where } = require("./lib/bed.js")

const bed = testBed()
const safe = new alien.Vault("safe").build()
let image

beforeAll(async () => {
  image = await bed.image()
})

const vault = (name, words, options) => bed.cli(["vault", ...words, "-n", name], options)
const text = async (deployment, id) => (await allLines(deployment, id)).map(({ line }) => line)

const mode = (file) => (fs.statSync(file).mode & 0o777).toString(8)

/** Sets a value by standard input, where no other user can see it. */
async function set(name, key, value, id = "safe") {
  const { child, ended } = startCli(["vault", "set", id, key, "-n", name], { env: { ALIEN_STATE_DIR: bed.stateDir }, stdin: "pipe" })
  child.stdin.end(value)
  return ended
}

test("a value that was set is there for the daemon, before its first start too; it is listed, and can be removed", async () => {
  expect(await set("filled", "password", "first\n")).toMatchObject({ code: 0, stdout: "", stderr: "password is in vault safe.\n" })
  const build = () => stackOf("filled", safe, daemon("d", image, "read=/run/alien/safe/password", "print=end", "ready").link(safe))
  const deployment = await bed.deploy(build())
  await until(deployment, "d", /^end$/)
  expect((await text(deployment, "d"))[0]).toBe("read /run/alien/safe/password: first")
  const file = path.join(bed.folder, "value")
  fs.writeFileSync(file, "second")
  expect((await vault("filled", ["set", "safe", "password", "--from-file", file])).code).toBe(0)
  expect((await vault("filled", ["set", "safe", "other", "--from-env", "OTHER"], { env: { OTHER: "x" } })).code).toBe(0)
  await deployment.restart("d")
  await until(deployment, "d", /^end$/, 2)
  expect((await text(deployment, "d"))[2]).toBe("read /run/alien/safe/password: second")
  expect((await vault("filled", ["list", "safe"])).stdout).toBe("other\npassword\n")
  expect((await vault("filled", ["remove", "safe", "other"])).code).toBe(0)
  expect(JSON.parse((await vault("filled", ["list", "safe", "--json"])).stdout)).toEqual({ vault: "safe", keys: ["password"] })
  // It outlives the deployment, and goes with its data.
  await deployment.destroy()
  expect((await vault("filled", ["list", "safe"])).stdout).toBe("password\n")
  await (await bed.deploy(build())).destroy({ data: true })
  expect((await vault("filled", ["list", "safe"])).stdout).toBe("")
})

test("on the host its owner alone gets at it", async () => {
  await set("closed", "key", "value")
  const folder = path.join(bed.stateDir, "data/closed/safe")
  expect([bed.stateDir, folder, path.join(folder, "key")].map(mode)).toEqual(["700", "700", "600"])
  // So does a link of a program that is root: what it puts there, and how, is its own affair.
  const deployment = await bed.deploy(stackOf("closed", safe, daemon("d", image, "read=/run/alien/safe/key", "write=/run/alien/safe/mine:x", "print=end", "ready").link(safe)))
  await until(deployment, "d", /^end$/)
  expect((await text(deployment, "d"))[0]).toBe("read /run/alien/safe/key: value")
  expect([folder, path.join(folder, "key")].map(mode)).toEqual(["700", "600"])
  await vault("closed", ["remove", "safe", "key"])
})

test("who may only read it cannot change it, and who is granted nothing does not see it", async () => {
  await set("granted", "key", "value")
  const steps = ["read=/run/alien/safe/key", "write=/run/alien/safe/key:mine", "print=end", "ready"]
  const one = (id, profile) => daemon(id, image, ...steps).permissions(profile).link(safe)
  const profiles = { reader: { safe: ["vault/data-read"] }, nobody: {} }
  const stack = new alien.Stack("granted").add(safe, "frozen").add(one("r", "reader").build(), "live").add(one("n", "nobody").build(), "live").permissions({ profiles }).build()
  const deployment = await bed.deploy(stack)
  await until(deployment, "r", /^end$/)
  await until(deployment, "n", /^end$/)
  expect(await text(deployment, "r")).toEqual(["read /run/alien/safe/key: value", "write /run/alien/safe/key: ReadOnlyFilesystem", "end"])
  expect(await text(deployment, "n")).toEqual(["read /run/alien/safe/key: NotFound", "write /run/alien/safe/key: NotFound", "end"])
})

where(manyUsers()).test("a daemon that is not root reads it alone, until another one that is not root either is linked to it", async () => {
  await set("users", "key", "value")
  const folder = path.join(bed.stateDir, "data/users/safe")
  // On the host an ordinary user does not get into a folder that is not his.
  const modes = (...keys) => [mode(folder), ...(isRoot ? keys : []).map((key) => mode(path.join(folder, key)))]
  const [app, other] = await Promise.all(["app", "4242"].map((User) => bed.image({ config: { User } })))
  const one = daemon("one", app, "read=/run/alien/safe/key", "until=/run/alien/safe/later", "read=/run/alien/safe/later", "print=end", "ready").link(safe)
  const two = daemon("two", other, "read=/run/alien/safe/key", "read=/run/alien/safe/later", "print=end", "ready").link(safe)
  // Root of an image reads what is another's.
  const root = daemon("root", image, "read=/run/alien/safe/key", "print=end", "ready").link(safe)
  const deployment = await bed.deploy(stackOf("users", safe, one, root))
  await until(deployment, "root", /^end$/)
  await until(deployment, "one", /key: value$/)
  expect(modes("key")).toEqual(["700", "600"].slice(0, isRoot ? 2 : 1))
  // It sees what comes, in its own right; who fills the vault gets at it, whoever it belongs to.
  await set("users", "passing", "x")
  expect((await vault("users", ["remove", "safe", "passing"])).code).toBe(0)
  expect((await vault("users", ["remove", "safe", "passing"])).stderr).toMatch(/there is no value "passing" in vault "safe"/)
  const long = "x".repeat(200_000)
  expect(await set("users", "later", long)).toMatchObject({ code: 0 })
  await until(deployment, "one", /^end$/)
  const said = (await text(deployment, "one")).join("")
  expect(said === `read /run/alien/safe/key: valueread /run/alien/safe/later: ${long}end`).toBe(true)
  expect(modes("key", "later")).toEqual(["700", "600", "600"].slice(0, isRoot ? 3 : 1))
  await set("users", "later", "second")
  expect((await vault("users", ["list", "safe"])).stdout).toBe("key\nlater\n")
  await bed.deploy(stackOf("users", safe, one, root, two))
  await until(deployment, "two", /^end$/)
  expect((await text(deployment, "two")).slice(0, 2)).toEqual(["read /run/alien/safe/key: value", "read /run/alien/safe/later: second"])
  await set("users", "key", "third")
  expect(modes("key", "later")).toEqual(["777", "644", "644"].slice(0, isRoot ? 3 : 1))
  await deployment.restart("one")
  await until(deployment, "one", /key: third$/)
  await deployment.destroy({ data: true })
})

test("what is wrong is said, and never with the value", async () => {
  await bed.deploy(stackOf("wrong", safe, daemon("d", image, "ready").link(safe)))
  const secret = "do-not-tell"
  const answers = await Promise.all([
    set("wrong", "key", secret, "sfae"),
    set("wrong", "../key", secret),
    set("wrong", "key", secret, "../x"),
    set("wrong", "large", secret.repeat(100_000)),
    set("wrong", "bytes", Buffer.from([0xff, 0xfe])),
  ])
  const said = answers.map(({ stderr }) => stderr)
  expect(said).toEqual([
    expect.stringMatching(/^error: there is no vault "sfae" in deployment "wrong"; there is: safe\nhint: /),
    expect.stringMatching(/^error: "\.\.\/key" cannot be the name of a value/),
    expect.stringMatching(/^error: there can be no vault "\.\.\/x"/),
    expect.stringMatching(/^error: the value for "large" has 1100000 bytes; a vault takes 1048576/),
    expect.stringMatching(/^alien: a value is text in UTF-8/),
  ])
  expect(answers.map(({ code }) => code)).toEqual([1, 1, 1, 1, 2])
  expect(said.join("")).not.toContain(secret)
  expect((await vault("wrong", ["remove", "safe", "nothing"])).stderr).toMatch(/there is no value "nothing" in vault "safe"/)
  expect((await vault("wrong", ["set", "safe", "key", "--from-file", "/no/such"])).code).toBe(2)
  expect((await vault("wrong", ["set", "safe"])).stderr).toMatch(/vault set needs KEY/)
  const elsewhere = await bed.cli(["vault", "set", "safe", "key", "-n", "wrong", "-p", "kubernetes", "--from-env", "X"], { env: { X: secret } })
  expect(elsewhere.stderr).toMatch(/Secrets of the namespace.*\n.*kubectl create secret generic wrong-safe-key --from-file=value=FILE/)
})
