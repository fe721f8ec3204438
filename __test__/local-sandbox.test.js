"use strict"

// What a daemon sees: the image, and nothing of the caller.

const fs = require("node:fs")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { allLines, daemon, failure, isAlive, manyUsers, stackOf, testBed, until, where } = require("./lib/bed.js")

const bed = testBed()
let image
const text = async (deployment, id = "d") => (await allLines(deployment, id)).map(({ line }) => line)
/** Deploys one daemon, waits until it has printed `end`, and gives what it printed. */
async function printed(id, from, ...steps) {
  const deployment = await bed.deploy(stackOf(id, daemon("d", from, ...steps, "print=end", "ready")))
  await until(deployment, "d", /^end$/)
  return text(deployment)
}
/** Whether this account may give sandboxes more than one user (subuid(5)). */
const hasManyUsers = manyUsers()

beforeAll(async () => {
  image = await bed.image()
})

test("the environment is the image's, the declared one and the deployment's; nothing of the caller's", async () => {
  process.env.CALLERS_OWN = "leaks"
  const deployment = await bed.deploy(stackOf("environment", daemon("my-d", image, "env", "ready").environment({ DECLARED: "a=b $(X) ünï\n2", FROM_IMAGE: "changed" })))
  await until(deployment, "my-d", /^env end$/)
  const lines = await text(deployment, "my-d")
  expect(lines.filter((line) => !line.startsWith("env NOTIFY_SOCKET=@"))).toEqual([
    "env ALIEN_DEPLOYMENT_ID=environment",
    "env ALIEN_DEPLOYMENT_TYPE=local",
    "env DECLARED=a=b $(X) ünï",
    "2",
    "env FROM_IMAGE=changed",
    "env HOME=/root",
    "env HOSTNAME=my-d",
    "env PATH=/bin",
    "env end",
  ])
  expect(lines).toContainEqual(expect.stringMatching(/^env NOTIFY_SOCKET=@/))
})

test("its root is the image: of the host it has nothing but resolver and kernel", async () => {
  const lines = await printed("root", image, "list=/", "list=/home", "read=/etc/shadow", "read=/etc/image", "list=/proc/1/root", "hostname", "list=/tmp", `list=${bed.folder}`, "pid", "cwd", "mounts", "list=/dev")
  expect(lines).toEqual(expect.arrayContaining([
    "list /: bin dev etc proc root sys tmp",
    "list /home: NotFound",
    "read /etc/shadow: NotFound",
    "read /etc/image: from the image",
    "hostname d",
    "list /tmp: ",
    `list ${bed.folder}: NotFound`,
    "pid 2",
    "cwd /",
  ]))
  const mounts = lines.filter((line) => line.startsWith("mount ")).map((line) => line.split(" ")[2])
  expect(mounts.filter((at) => !/^(\/|\/(dev|proc|sys)(\/.*)?|\/tmp|\/etc\/(hosts|hostname|resolv\.conf)|)$/.test(at ?? ""))).toEqual([])
  expect(lines.find((line) => line.startsWith("list /dev:"))).toMatch(/full.*null.*random.*tty.*urandom.*zero/)
  expect(lines.join("\n")).not.toContain(bed.folder + "/state")
})

test("rights are few: no new ones, no capability that reaches beyond", async () => {
  const lines = await printed("rights", image, "ids")
  const caps = BigInt(`0x${lines[0].match(/caps=([0-9a-f]+)/)[1]}`)
  expect(lines[0]).toContain("nnp=1")
  for (const beyond of [12, 13, 16, 17, 19, 21, 22, 25, 27]) expect(caps & (1n << BigInt(beyond))).toBe(0n)
})

test("the kernel's own things are out of reach: no system call that a container has no use for", async () => {
  const CLONE_NEWUSER = 0x10000000
  const refused = {
    mount: 165, umount2: 166, pivot_root: 155, unshare: [272, CLONE_NEWUSER], setns: 308, bpf: 321, perf_event_open: 298,
    keyctl: 250, add_key: 248, request_key: 249, userfaultfd: 323, kexec_load: 246, init_module: 175, finit_module: 313, delete_module: 176,
    open_by_handle_at: 304, reboot: 169, swapon: 167, syslog: 103, iopl: 172, ioperm: 173, settimeofday: 164, clock_settime: 227, acct: 163,
    io_uring_setup: 425, open_tree: 428, move_mount: 429, fsopen: 430, mount_setattr: 442, pidfd_getfd: 438, quotactl: 179, sethostname: 170,
    clone: [56, CLONE_NEWUSER | 17], socket_vsock: [41, 40], personality: [135, 0x0400000], fanotify_init: 300, lookup_dcookie: 212, nfsservctl: 180,
  }
  const step = (call) => `call=${[call].flat().join(":")}`
  const lines = await printed("calls", image, ...Object.values(refused).map(step), "call=435", "call=9999", "call=39")
  const errno = Object.fromEntries(lines.flatMap((line) => [...line.matchAll(/^call (\S+): (\d+)$/g)]).map(([, call, errno]) => [call, Number(errno)]))
  const [EPERM, ENOSYS] = [1, 38]
  expect(Object.fromEntries(Object.entries(refused).map(([name, call]) => [name, errno[[call].flat().join(":")]]))).toEqual(Object.fromEntries(Object.keys(refused).map((name) => [name, EPERM])))
  // clone3, whose flags cannot be looked into, and what this kernel may not know: a program goes on with what is older. getpid().
  expect([errno[435], errno[9999], errno[39]]).toEqual([ENOSYS, ENOSYS, 0])
})

describe("image configuration", () => {
  test("WorkingDir, made where it is missing", async () => {
    const from = await bed.image({ config: { WorkingDir: "/made/for it" } })
    expect(await printed("workdir", from, "cwd")).toContain("cwd /made/for it")
  })

  test("ENTRYPOINT and CMD are put together, and .command() replaces both", async () => {
    const from = await bed.image({ config: { Entrypoint: ["/bin/daemon", "argv"], Cmd: ["print=from cmd", "ready"] } })
    let deployment = await bed.deploy(stackOf("argv", daemon("d", from)))
    await until(deployment, "d", /^from cmd$/)
    deployment = await bed.deploy(stackOf("argv", daemon("d", from, "print=mine", "ready")))
    await until(deployment, "d", /^mine$/)
    expect(await text(deployment)).toEqual(['argv ["/bin/daemon", "argv", "print=from cmd", "ready"]', "from cmd", "mine"])
  })

  test("a program without a slash is looked up in the image's PATH", async () => {
    const from = await bed.image({ config: { Entrypoint: ["daemon", "argv", "ready"] } })
    const deployment = await bed.deploy(stackOf("path", daemon("d", from)))
    await until(deployment, "d", /^argv \["daemon"/)
  })

  where(hasManyUsers).describe("USER, by name or number, with its group", () => {
    test.each([
      ["app", "uid=1000,1000,1000,1000 gid=1001,1001,1001,1001 groups=29", "/home/app"],
      ["1000", "uid=1000,1000,1000,1000 gid=1001,1001,1001,1001 groups=29", "/home/app"],
      ["4242:77", "uid=4242,4242,4242,4242 gid=77,77,77,77 groups= ", "/"],
      ["app:audio", "uid=1000,1000,1000,1000 gid=29,29,29,29 groups= ", "/home/app"],
    ])("%s", async (user, ids, home) => {
      const from = await bed.image({
        config: { User: user },
        files: [{ path: "data/", type: "dir", uid: 1000, gid: 1001, mode: 0o700 }, { path: "data/mine", data: "owned", uid: 1000, gid: 1001, mode: 0o600 }],
      })
      const lines = await printed(`user-${user.replace(":", "-")}`, from, "ids", "env", "read=/data/mine", "write=/root/x:y", "read=/etc/hostname", "write=/tmp/x:y")
      expect(lines[0]).toContain(ids)
      expect(lines[0]).toContain("caps=0000000000000000")
      expect(lines).toContain(`env HOME=${home}`)
      expect(lines).toContain(user.startsWith("4242") ? "read /data/mine: PermissionDenied" : "read /data/mine: owned")
      expect(lines).toEqual(expect.arrayContaining(["write /root/x: PermissionDenied", "read /etc/hostname: d", "wrote /tmp/x"]))
    })
  })

  where(!hasManyUsers).test("USER without subordinate ids is refused by name, and leaves nothing", async () => {
    const from = await bed.image({ config: { User: "app" } })
    const error = await failure(bed.deploy(stackOf("unmapped", daemon("d", from, "ready"))))
    expect(error).toMatchObject({ code: "IMAGE_USER_UNMAPPED", hint: expect.stringContaining("uidmap") })
  })

  test("STOPSIGNAL is the signal that comes", async () => {
    const from = await bed.image({ config: { StopSignal: "SIGUSR1" } })
    const deployment = await bed.deploy(stackOf("stopsignal", daemon("d", from, "catch", "ready")))
    await deployment.restart("d")
    expect(await text(deployment)).toEqual(["got SIGUSR1", "done"])
  })

  test("a STOPSIGNAL that is none is refused", async () => {
    const from = await bed.image({ config: { StopSignal: "SIGNOPE" } })
    expect(await failure(bed.deploy(stackOf("nosignal", daemon("d", from))))).toMatchObject({ code: "IMAGE_STOP_SIGNAL_UNKNOWN" })
  })
})

describe("stopping", () => {
  test("a program may take its time within the grace period", async () => {
    const deployment = await bed.deploy(stackOf("patient", daemon("d", image, "catch=300", "ready")))
    await deployment.restart("d")
    expect(await text(deployment)).toEqual(["got SIGTERM", "done"])
  })

  test("one that ignores the signal is killed after it", async () => {
    const deployment = await bed.deploy(stackOf("deaf", daemon("d", image, "ignore=SIGTERM", "orphan=deaf too", "ready").stopGracePeriodSeconds(1)))
    const { pid } = await bed.one(deployment, "d")
    const begin = Date.now()
    await deployment.destroy()
    expect(Date.now() - begin).toBeGreaterThanOrEqual(1000)
    expect(isAlive(pid)).toBe(false)
  })

  test("one without a handler ends at once", async () => {
    const deployment = await bed.deploy(stackOf("plain", daemon("d", image, "ready")))
    // Well before its grace period of 30 s, which is longer than this test may take.
    await deployment.destroy()
  }, 15_000)
})

test("zombies are reaped, and orphans die with the daemon", async () => {
  const lines = await printed("family", image, "orphan=left", "zombies=20", "procs")
  // Init, the program and the orphan.
  expect(lines.find((line) => line.startsWith("procs"))).toMatch(/^procs 1:\w 2:\w \d+:\w$/)
  const deployment = await alien.connect(bed.options({ name: "family" }))
  const { pid } = await bed.one(deployment, "d")
  const init = fs.readFileSync(`/proc/${pid}/status`, "utf8").match(/^PPid:\t(\d+)$/m)[1]
  const namespace = fs.readlinkSync(`/proc/${pid}/ns/pid`)
  const inside = () => fs.readdirSync("/proc").filter((name) => {
    try {
      return /^\d+$/.test(name) && name !== init && fs.readlinkSync(`/proc/${name}/ns/pid`) === namespace
    } catch {
      return false
    }
  })
  // Init and namespace stay.
  const ends = [() => deployment.restart("d"), (pid) => process.kill(pid, "SIGKILL")]
  for (const [index, end] of ends.entries()) {
    const before = inside()
    expect(before.length).toBeGreaterThanOrEqual(2)
    await end((await bed.one(deployment, "d")).pid)
    await until(deployment, "d", /^end$/, index + 2)
    expect(inside().filter((name) => before.includes(name))).toEqual([])
  }
})

describe("what is written", () => {
  test("is kept over restarts and changes, and renewed with the image", async () => {
    const steps = ["append=/etc/image:more", "read=/etc/image", "print=end", "ready"]
    let deployment = await bed.deploy(stackOf("top", daemon("d", image, ...steps)))
    await deployment.restart("d")
    await bed.deploy(stackOf("top", daemon("d", image, ...steps).environment({ A: "b" })))
    await until(deployment, "d", /^end$/, 3)
    const second = await bed.image({ config: { Labels: { another: "image" } } })
    await bed.deploy(stackOf("top", daemon("d", second, ...steps)))
    await until(deployment, "d", /^end$/, 4)
    expect((await text(deployment)).filter((line) => /^(read|more)/.test(line))).toEqual([
      "read /etc/image: from the image", "more", "read /etc/image: from the image", "moremore",
      "read /etc/image: from the image", "moremoremore", "read /etc/image: from the image", "more",
    ])
  })

  test("two daemons of one image do not see each other's", async () => {
    const deployment = await bed.deploy(stackOf("apart", daemon("a", image, "write=/x:a", "ready"), daemon("b", image, "ready")))
    await bed.deploy(stackOf("apart", daemon("a", image, "write=/x:a", "ready"), daemon("b", image, "read=/x", "print=end", "ready")))
    await until(deployment, "b", /^end$/)
    expect(await text(deployment, "b")).toEqual(["read /x: NotFound", "end"])
  })

  test("to a VOLUME outlives the image and destroy, and goes with destroy({data: true})", async () => {
    const files = [{ path: "data/", type: "dir" }, { path: "data/seed", data: "seed" }]
    const volumes = { Volumes: { "/data": {} } }
    const first = await bed.image({ files, config: volumes })
    const second = await bed.image({ files, config: { ...volumes, Labels: { another: "one" } } })
    const steps = ["append=/data/log:+", "read=/data/log", "list=/data", "print=end", "ready"]
    const lines = async (name) => {
      const deployment = await bed.deploy(stackOf("volume", daemon("d", name, ...steps)))
      await until(deployment, "d", /^end$/)
      return [deployment, await text(deployment)]
    }
    let [deployment, seen] = await lines(first)
    expect(seen).toEqual(["wrote /data/log", "read /data/log: +", "list /data: log seed", "end"])
    await deployment.destroy()
    ;[deployment, seen] = await lines(second)
    expect(seen).toContain("read /data/log: ++")
    await deployment.destroy({ data: true })
    ;[deployment, seen] = await lines(second)
    expect(seen).toContain("read /data/log: +")
    await deployment.destroy({ data: true })
    expect(fs.existsSync(path.join(bed.stateDir, "data/volume"))).toBe(false)
  })
})
