"use strict"

// What servers and what stands before them may answer over HTTP/1.1, whole or broken, in whatever pieces it comes.

const net = require("node:net")
const { CommandsClient } = require("@alienplatform/core/commands")
const { failure } = require("./lib/bed.js")

const closers = []
afterAll(() => Promise.all(closers.map((close) => close())))

/** A server that gives each request the next of some answers: texts that are sent in pieces of `size`, or functions of the socket. */
async function serve(answers, { size = Infinity } = {}) {
  const served = { connections: 0, requests: [] }
  const sockets = new Set()
  const server = net.createServer((socket) => {
    served.connections += 1
    sockets.add(socket)
    socket.setNoDelay(true)
    socket.on("error", () => {})
    let text = ""
    socket.on("data", async (chunk) => {
      text += chunk
      const [head] = text.split("\r\n\r\n")
      const length = Number(/content-length: (\d+)/.exec(head)?.[1] ?? 0)
      if (!text.includes("\r\n\r\n") || text.length < head.length + 4 + length) return
      served.requests.push(text)
      text = ""
      const answer = answers.shift()
      if (typeof answer === "function") return answer(socket)
      for (let at = 0; at < answer.length; at += size) {
        // Each piece is on its way before the next is written.
        await new Promise((resolve) => socket.write(answer.slice(at, at + size), "latin1", () => setImmediate(resolve)))
      }
    })
  })
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve))
  const client = new CommandsClient({ managerUrl: `http://127.0.0.1:${server.address().port}`, deploymentId: "d", token: "t" })
  closers.push(() => {
    client.close()
    for (const socket of sockets) socket.destroy()
    return new Promise((resolve) => server.close(resolve))
  })
  return { client, served }
}

const VIEW = '{"commandId":"cmd_1","state":"PENDING"}'
const OK = `HTTP/1.1 200 OK\r\nContent-Length: ${VIEW.length}\r\n\r\n${VIEW}`
const chunked = (...chunks) => `HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n${chunks.join("")}`
const chunk = (text, more = "") => `${text.length.toString(16)}${more}\r\n${text}\r\n`

const WHOLE = {
  "with a length": OK,
  "in chunks": chunked(chunk(VIEW.slice(0, 5)), chunk(VIEW.slice(5), ";name=value"), "0\r\n\r\n"),
  "in chunks, with headers behind them": chunked(chunk(VIEW), "0\r\nx-sum: 1\r\nx-other: 2\r\n\r\n"),
  "after going on": `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n${OK}`,
  "without a reason, with strange spaces": `HTTP/1.1 200\r\ncontent-length:${VIEW.length} \t\r\nx-empty:\r\n\r\n${VIEW}`,
}

describe.each([[1], [7], [Infinity]])("in pieces of %d", (size) => {
  test.each(Object.entries(WHOLE))("%s, and the connection is kept", async (_, answer) => {
    const { client, served } = await serve([answer, answer], { size })
    for (let time = 0; time < 2; time++) expect(await client.get("cmd_1")).toEqual(JSON.parse(VIEW))
    expect(served.connections).toBe(1)
  })

  test.each([
    ["no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", "it is not HTTP/1.1"],
    ["HTTP/2", "HTTP/2 200 OK\r\n\r\n", "it is not HTTP/1.1"],
    ["a header that is none", "HTTP/1.1 200 OK\r\nnothing\r\n\r\n", "a header is none"],
    ["a header that goes on", "HTTP/1.1 200 OK\r\na: b\r\n c: d\r\n\r\n", "a header is none"],
    ["two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}", "two lengths"],
    ["a length that is none", "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "length is no number"],
    ["too much", "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", "more than 67108864 bytes"],
    ["another encoding", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "its encoding is"],
    ["a chunk without a size", chunked("x\r\n{}\r\n"), "size of a chunk"],
    ["a chunk that is longer", chunked("1\r\n{}\r\n"), "longer than it says"],
  ])("%s is no answer", async (_, answer, why) => {
    const { client } = await serve([answer], { size })
    expect(await failure(client.get("cmd_1"))).toMatchObject({ code: "MANAGER_UNREACHABLE", message: expect.stringContaining(why), retryable: true })
  })
})

test.each([
  ["until it closes", `HTTP/1.1 200 OK\r\n\r\n${VIEW}`],
  ["of an old server", `HTTP/1.0 200 OK\r\ncontent-length: ${VIEW.length}\r\n\r\n${VIEW}`],
  ["that says it closes", OK.replace("\r\n\r\n", "\r\nConnection: Close\r\n\r\n")],
  ["with a length and chunks", chunked(chunk(VIEW), "0\r\n\r\n").replace("\r\n\r\n", "\r\ncontent-length: 3\r\n\r\n")],
  ["with more behind it", `${OK}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}`],
])("%s, and the next is asked on another connection", async (_, answer) => {
  const whole = (socket) => socket.end(answer, "latin1")
  const { client, served } = await serve([whole, OK])
  expect(await client.get("cmd_1")).toEqual(JSON.parse(VIEW))
  expect(await client.get("cmd_1")).toEqual(JSON.parse(VIEW))
  expect(served.connections).toBe(2)
})

test("heads and lines without an end are not read for ever", async () => {
  const endless = (text) => (socket) => {
    const more = () => socket.destroyed || socket.write(text.repeat(1000), more)
    socket.write("HTTP/1.1 200 OK\r\n", more)
  }
  const { client } = await serve([endless("a: b\r\n"), (socket) => (socket.write(chunked()), socket.write("1".repeat(10_000)))])
  for (let time = 0; time < 2; time++) expect(await failure(client.get("cmd_1"))).toMatchObject({ message: expect.stringContaining("a line does not end") })
})

test("an answer that is cut off is none", async () => {
  const { client } = await serve([(socket) => socket.end(OK.slice(0, -3)), (socket) => socket.destroy()])
  for (let time = 0; time < 2; time++) expect(await failure(client.get("cmd_1"))).toMatchObject({ code: "MANAGER_UNREACHABLE", message: expect.stringContaining("closed") })
})

test("a kept connection that the server has closed meanwhile: the same is asked again on a new one", async () => {
  const { client, served } = await serve([OK, (socket) => socket.destroy(), OK])
  expect(await client.get("cmd_1")).toEqual(JSON.parse(VIEW))
  expect(await client.get("cmd_1")).toEqual(JSON.parse(VIEW))
  expect(served).toMatchObject({ connections: 2, requests: { length: 3 } })
})

test("an answer without a body", async () => {
  const { client } = await serve(["HTTP/1.1 204 No Content\r\n\r\n", OK])
  expect(await failure(client.get("cmd_1"))).toMatchObject({ code: "MANAGER_HTTP_ERROR", context: { status: 204 } })
  expect(await client.get("cmd_1")).toEqual(JSON.parse(VIEW))
})

test("one that does not come in time, and one that stops", async () => {
  const { client } = await serve([() => {}, (socket) => socket.write(OK.slice(0, -3))])
  expect(await failure(client.get("cmd_1", { timeoutMs: 50 }))).toMatchObject({ message: expect.stringContaining("nothing came within 0.05 s") })
  expect(await failure(client.get("cmd_1"))).toMatchObject({ message: expect.stringContaining("its answer stopped for 5 s") })
}, 20_000)

test("no header can be smuggled in", async () => {
  const { client, served } = await serve([OK])
  const evil = "00\r\nx-evil: 1"
  expect(await failure(client.submit("a", 1, { traceparent: evil }))).toMatchObject({ code: "INVALID_ARGUMENT", message: expect.stringContaining("traceparent") })
  expect(await failure(new CommandsClient({ managerUrl: "http://127.0.0.1:1", deploymentId: "d", token: evil }).get("a"))).toMatchObject({ code: "INVALID_ARGUMENT" })
  await client.get("../../x y\r\n")
  expect(served.requests).toEqual([expect.stringMatching(/^GET \/v1\/commands\/..%2F..%2Fx%20y%0D%0A HTTP\/1\.1\r\nhost: 127\.0\.0\.1:\d+\r\naccept: application\/json\r\nauthorization: Bearer t\r\n\r\n$/)])
  expect(() => new CommandsClient({ managerUrl: "http://user:pass@host", deploymentId: "d", token: "t" })).toThrow(expect.objectContaining({ message: expect.not.stringContaining("pass") }))
})
