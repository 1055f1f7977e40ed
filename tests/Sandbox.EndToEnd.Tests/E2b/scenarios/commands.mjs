// Commands: foreground, background, stdin, signals, list, reconnect by pid, env, cwd, user, timeout, errors.
import assert from 'node:assert/strict'
import { CommandExitError, Sandbox, TimeoutError } from 'e2b'

const sandbox = await Sandbox.create({ envs: { OF_ALL: 'session' }, timeoutMs: 240_000 })
const run = (cmd, opts) => sandbox.commands.run(cmd, opts)

const chunks = []
const both = await run('echo out; echo err >&2', { onStdout: (d) => chunks.push(d) })
assert.deepEqual([both.stdout, both.stderr, both.exitCode], ['out\n', 'err\n', 0])
assert.equal(chunks.join(''), 'out\n')

await assert.rejects(run('echo before; echo why >&2; exit 3'), (e) => {
  assert.ok(e instanceof CommandExitError)
  assert.deepEqual([e.exitCode, e.stdout, e.stderr], [3, 'before\n', 'why\n'])
  return true
})

const place = await run('echo "$OF_ALL $MINE"; pwd; whoami', { envs: { MINE: 'call' }, cwd: '/tmp' })
assert.equal(place.stdout, 'session call\n/tmp\nuser\n')
assert.equal((await run('whoami', { user: 'root' })).stdout, 'root\n')

// Standard input, to its end.
const cat = await run('cat', { background: true, stdin: true })
assert.ok(cat.pid > 0)
await sandbox.commands.sendStdin(cat.pid, 'one\n')
await sandbox.commands.sendStdin(cat.pid, 'two\n')
await sandbox.commands.closeStdin(cat.pid)
assert.equal((await cat.wait()).stdout, 'one\ntwo\n')

// Listed while it runs, killed by pid.
const sleeper = await run('sleep 1000', { background: true })
const listed = await sandbox.commands.list()
const mine = listed.find((p) => p.pid === sleeper.pid)
assert.ok(mine, JSON.stringify(listed))
assert.equal(await sandbox.commands.kill(sleeper.pid), true)
await assert.rejects(sleeper.wait(), (e) => e instanceof CommandExitError && e.exitCode !== 0)
assert.equal(await sandbox.commands.kill(sleeper.pid), false)
assert.ok(!(await sandbox.commands.list()).some((p) => p.pid === sleeper.pid))

// Left and found again by pid: nothing of its output is lost.
const counter = await run('for i in $(seq 1 20); do echo $i; sleep 0.1; done', { background: true })
await new Promise((r) => setTimeout(r, 500))
await counter.disconnect()
await new Promise((r) => setTimeout(r, 500))
const found = await sandbox.commands.connect(counter.pid)
assert.equal(found.pid, counter.pid)
assert.equal((await found.wait()).stdout, Array.from({ length: 20 }, (_, i) => `${i + 1}\n`).join(''))

// Over its time: the SDK's own error, and the process is gone.
await assert.rejects(run('sleep 1000; echo never', { timeoutMs: 1500 }), TimeoutError)
await new Promise((r) => setTimeout(r, 3000))
assert.equal((await run('pgrep -x sleep || true')).stdout, '')

// More than any buffer, and bytes that are cut inside a character.
const big = await run("python3 -c \"print('x' * 3000000); print('ä€😀' * 20000)\"", { timeoutMs: 120_000 })
assert.equal(big.stdout, 'x'.repeat(3000000) + '\n' + 'ä€😀'.repeat(20000) + '\n')

// 100 small ones at once: all are answered, none with another's output.
const many = await Promise.all(Array.from({ length: 100 }, (_, i) => run(`echo ${i}`, { timeoutMs: 0, requestTimeoutMs: 0 }).then((r) => r.stdout, (e) => `${e.constructor.name} ${e.message}`)))
assert.deepEqual(many.filter((out, i) => out !== `${i}\n`), [])
await sandbox.kill()
