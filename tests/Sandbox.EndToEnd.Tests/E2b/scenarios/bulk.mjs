// A large file up and down through streams: the bytes are the same, and nobody holds them all. SCENARIO_MIB says how large.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { Sandbox } from 'e2b'

const MIB = 1 << 20
const size = Number(process.env.SCENARIO_MIB ?? 64) * MIB
const block = new Uint8Array(MIB).map((_, i) => (i * 31) & 255)
const sandbox = await Sandbox.create({ timeoutMs: 1_500_000 })
const sent = createHash('sha256')
let at = 0
const source = new ReadableStream({
  pull(controller) {
    if (at >= size) return controller.close()
    block[at / MIB % MIB] ^= 0xff
    sent.update(block)
    controller.enqueue(block.slice())
    at += MIB
  },
})
await sandbox.files.write('large', source, { useOctetStream: true, requestTimeoutMs: 0 })
assert.equal((await sandbox.files.getInfo('large')).size, size)
const got = createHash('sha256')
let length = 0
for await (const chunk of await sandbox.files.read('large', { format: 'stream', requestTimeoutMs: 0 })) {
  got.update(chunk)
  length += chunk.length
}
assert.equal(length, size)
assert.equal(got.digest('hex'), sent.digest('hex'))
await sandbox.kill()
