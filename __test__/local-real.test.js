"use strict"

// Programs that people really run, from images of Debian's packages: that they work, and end as they want to.

const { execFileSync } = require("node:child_process")
const fs = require("node:fs")
const alien = require("@alienplatform/core")
const { allLines, eventually, manyUsers, needs, stackOf, testBed, until } = require("./lib/bed.js")
const { debianImage, missing } = require("./lib/debian.js")
const { freePort } = require("./lib/registry.js")

jest.setTimeout(120_000)

const bed = testBed()
/** These become users of their own, which an account without subordinate ids cannot. */
const withUsers = needs(missing() ?? (manyUsers() ? undefined : "this account has one user only (subuid(5))"))
const runs = (id, image) => new alien.Daemon(id).code({ type: "image", image }).permissions("execution")
const lines = async (deployment, id) => (await allLines(deployment, id)).map(({ line }) => line)
/** The first number of a line of /proc/PID/status. */
const about = (pid, field) => new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(fs.readFileSync(`/proc/${pid}/status`, "utf8"))[1]

withUsers.test("nginx serves a page, by workers of another user, and finishes on its own stop signal", async () => {
  const port = await freePort()
  const conf = `daemon off; user www-data; worker_processes 2; error_log stderr notice; pid /run/nginx.pid;
    events {} http { access_log /dev/stdout; server { listen 127.0.0.1:${port}; root /var/www/html; } }`
  const files = [{ path: "etc/nginx/nginx.conf", data: conf }, { path: "var/www/html/index.html", data: "<h1>served</h1>\n" }]
  const image = await debianImage(bed, "nginx", ["nginx-light"], { config: { Entrypoint: ["nginx"], StopSignal: "SIGQUIT" }, files })
  const deployment = await bed.deploy(stackOf("web", runs("nginx", image).build()))
  const answer = await eventually(() => fetch(`http://127.0.0.1:${port}/`).catch(() => undefined))
  expect(await answer.text()).toBe("<h1>served</h1>\n")
  await until(deployment, "nginx", /"GET \/ HTTP\/1\.1" 200/)
  const { pid } = await bed.one(deployment, "nginx")
  const workers = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ")
  expect(workers).toHaveLength(2)
  for (const worker of workers) expect(about(worker, "Uid")).not.toBe(about(pid, "Uid"))
  await deployment.restart("nginx")
  expect((await lines(deployment, "nginx")).join("\n")).toMatch(/gracefully shutting down[^]*exit$/m)
})

needs(missing()).test("redis takes what redis-cli brings, and has it again after a restart and an update", async () => {
  const port = await freePort()
  const config = { Entrypoint: ["redis-server", "--port", `${port}`, "--bind", "127.0.0.1", "--dir", "/data", "--appendonly", "yes"], Volumes: { "/data": {} }, WorkingDir: "/data" }
  const image = await debianImage(bed, "redis", ["redis-server", "redis-tools"], { config, files: [] })
  const stack = (level) => stackOf("store", runs("redis", image).environment({ LEVEL: level }).build())
  const deployment = await bed.deploy(stack("1"))
  const cli = async (...words) => (await deployment.exec("redis", ["redis-cli", "-p", `${port}`, ...words])).stdout.trim()
  await eventually(() => cli("ping"), (answer) => answer === "PONG")
  expect(await cli("set", "kept", "value")).toBe("OK")
  await deployment.restart("redis")
  expect(await eventually(() => cli("get", "kept"), (answer) => answer !== "" && !answer.includes("refused"))).toBe("value")
  await bed.deploy(stack("2"))
  expect(await eventually(() => cli("get", "kept"), (answer) => answer !== "" && !answer.includes("refused"))).toBe("value")
  // It was asked to end, and saved what it had.
  expect((await lines(deployment, "redis")).join("\n")).toMatch(/Received SIGTERM[^]*bye bye/)
})

withUsers.test("PostgreSQL drops its privileges, is stopped by its own signal, and comes back with its data", async () => {
  const entry = `#!/bin/sh
set -e
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA" /run/postgresql && chown postgres:postgres "$PGDATA" /run/postgresql && chmod 700 "$PGDATA"
  exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi
[ -s "$PGDATA/PG_VERSION" ] || initdb --auth=trust --locale=C --encoding=UTF8
exec postgres -c listen_addresses= "$@"
`
  const config = {
    Entrypoint: ["/entry"], StopSignal: "SIGINT", Volumes: { "/var/lib/postgresql/data": {} },
    Env: ["PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PGDATA=/var/lib/postgresql/data"],
  }
  const files = [{ path: "entry", data: entry, mode: 0o755 }]
  const image = await debianImage(bed, "postgresql", ["postgresql-15", "dash", "coreutils", "util-linux"], { config, files })
  const deployment = await bed.deploy(stackOf("database", runs("postgres", image).stopGracePeriodSeconds(20).build()))
  const sql = async (text) => deployment.exec("postgres", ["psql", "-U", "postgres", "-Atc", text])
  const answers = async (text) => (await eventually(() => sql(text), ({ code }) => code === 0, 60_000)).stdout.trim()
  expect(await answers("create table kept (word text); insert into kept values ('here'); select current_user")).toContain("postgres")
  const { pid } = await bed.one(deployment, "postgres")
  // Its init is root inside.
  expect(about(pid, "Uid")).not.toBe(about(about(pid, "PPid"), "Uid"))
  await deployment.restart("postgres")
  expect(await answers("select word from kept")).toBe("here")
  const said = (await lines(deployment, "postgres")).join("\n")
  // SIGINT is its "fast" shutdown; after SIGKILL it would have to recover.
  expect(said).toMatch(/received fast shutdown request[^]*database system is shut down/)
  expect(said).not.toMatch(/was not properly shut down/)
})

/** A program with the libraries that it is linked to, as an image's files. */
function linked(program, at) {
  const libraries = [...execFileSync("ldd", [program], { encoding: "utf8" }).matchAll(/(\/\S+) \(0x/g)].map(([, file]) => file)
  return [{ path: at, from: program, mode: 0o755 }, ...libraries.map((file) => ({ path: file.slice(1), from: fs.realpathSync(file), mode: 0o755 }))]
}

test("Node.js runs, knows its limits, and ends when it is asked to", async () => {
  const script = `process.on("SIGTERM", () => { console.log("asked to end"); process.exit(0) })
setInterval(() => {}, 60_000)
console.log(JSON.stringify({ pid: process.pid, uid: process.getuid(), memory: process.constrainedMemory?.() ?? 0 }))`
  const image = await bed.image({ files: [...linked(process.execPath, "usr/bin/node"), { path: "app.js", data: script }], base: false, config: { Entrypoint: ["/usr/bin/node", "/app.js"], Env: [] } })
  const deployment = await bed.deploy(stackOf("js", runs("node", image).memory("256Mi").build()))
  const said = JSON.parse((await until(deployment, "node", /^\{/))[0])
  expect(said).toMatchObject({ pid: 2, uid: 0 })
  const { conditions } = await bed.one(deployment, "node")
  if (!conditions.some(({ type }) => type === "LimitsEnforced")) expect(said.memory).toBe(256 * 1024 * 1024)
  await deployment.restart("node")
  expect(await lines(deployment, "node")).toContain("asked to end")
})

needs(missing()).test("Python runs, as the image's user", async () => {
  const script = "import os, signal, sys\nprint('python', sys.version_info.major, os.getuid(), flush=True)\nsignal.pause()\n"
  const config = { Entrypoint: ["python3", "/app.py"], User: manyUsers() ? "nobody" : "" }
  const image = await debianImage(bed, "python", ["python3-minimal"], { config, files: [{ path: "app.py", data: script }] })
  const deployment = await bed.deploy(stackOf("py", runs("python", image).build()))
  expect(await until(deployment, "python", /^python/)).toContain(`python 3 ${manyUsers() ? 65534 : 0}`)
})
