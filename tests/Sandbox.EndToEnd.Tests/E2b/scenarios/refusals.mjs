// What is wrong or not offered: the SDK's own error classes come out, and nothing is made.
import assert from 'node:assert/strict'
import { AuthenticationError, NotFoundError, Sandbox, SandboxError, SandboxNotFoundError } from 'e2b'

const there = async () => (await Sandbox.list().nextItems()).length
const before = await there()
const unknown = '0123456789abcdefghjkmnpqrs'
await assert.rejects(Sandbox.connect(unknown), SandboxNotFoundError)
await assert.rejects(Sandbox.getInfo('no id at all'), SandboxNotFoundError)
await assert.rejects(Sandbox.setTimeout(unknown, 1000), SandboxNotFoundError)
assert.equal(await Sandbox.kill(unknown), false)
await assert.rejects(Sandbox.create('no-such-template'), /no template or snapshot 'no-such-template'/)
for (const [wanted, opts] of [
  [/network\.rules/, { network: { rules: { 'example.org': [{ transform: { headers: { 'X-Key': 'value' } } }] } } }],
  [/network\.egressProxy/, { network: { egressProxy: { address: 'proxy.example.org:1080' } } }],
  [/network\.denyOut/, { network: { denyOut: ['example.org'] } }],
  [/not public|no public address/i, { network: { allowOut: ['10.0.0.0/8'] } }],
  [/volumeMounts/, { volumeMounts: { '/data': 'volume' } }],
  [/autoPauseMemory/, { lifecycle: { onTimeout: { action: 'pause', keepMemory: false } } }],
]) {
  await assert.rejects(Sandbox.create(opts), (e) => e instanceof SandboxError && wanted.test(e.message))
}
const quiet = await Sandbox.create({ allowInternetAccess: false, network: { denyOut: ['0.0.0.0/0'] }, timeoutMs: 30_000 })
await quiet.kill()
assert.equal(await there(), before)

if (process.env.SCENARIO_KEYS) {
  await assert.rejects(Sandbox.create({ apiKey: 'e2b_00' }), AuthenticationError)
}
