// Files: text, bytes, streams, several at once, gzip, list, stat, rename, remove, metadata, links, owners, watch.
import assert from 'node:assert/strict'
import { FileNotFoundError, FileType, InvalidArgumentError, NotFoundError, Sandbox } from 'e2b'

const sandbox = await Sandbox.create({ timeoutMs: 240_000 })
const { files, commands } = sandbox
const missing = (e) => e instanceof NotFoundError

const written = await files.write('notes/hello.txt', 'hällo\n', { metadata: { source: 'test' } })
assert.equal(written.path, '/home/user/notes/hello.txt')
assert.equal(await files.read('notes/hello.txt'), 'hällo\n')
assert.equal(await files.exists('notes/hello.txt'), true)
assert.equal(await files.exists('notes/none'), false)

const info = await files.getInfo('notes/hello.txt')
assert.deepEqual([info.name, info.type, info.size, info.owner, info.permissions], ['hello.txt', FileType.FILE, 7, 'user', '-rw-r--r--'])
assert.deepEqual(info.metadata, { source: 'test' })
assert.ok(Math.abs(info.modifiedTime.getTime() - Date.now()) < 60_000)

// Every byte value, as bytes, blob and stream.
const bytes = Uint8Array.from({ length: 70_000 }, (_, i) => i % 256)
await files.write('bytes.bin', bytes.buffer)
assert.deepEqual(await files.read('bytes.bin', { format: 'bytes' }), bytes)
assert.deepEqual(new Uint8Array(await (await files.read('bytes.bin', { format: 'blob' })).arrayBuffer()), bytes)
let streamed = 0
for await (const chunk of await files.read('bytes.bin', { format: 'stream' })) streamed += chunk.length
assert.equal(streamed, bytes.length)
await files.write('zipped.txt', 'again and '.repeat(20_000), { gzip: true })
assert.equal(await files.read('zipped.txt', { gzip: true }), 'again and '.repeat(20_000))
await files.write('stream.bin', new Blob([bytes]).stream(), { useOctetStream: true })
assert.equal((await files.getInfo('stream.bin')).size, bytes.length)

const several = await files.write([{ path: 'many/a', data: 'A' }, { path: 'many/deep/b', data: 'B' }])
assert.deepEqual(several.map((f) => f.path), ['/home/user/many/a', '/home/user/many/deep/b'])
assert.equal(await files.read('many/deep/b'), 'B')
await files.write('empty', '')
assert.equal(await files.read('empty'), '')

const names = async (path, opts) => (await files.list(path, opts)).map((e) => e.path)
assert.deepEqual(await names('many'), ['/home/user/many/a', '/home/user/many/deep'])
assert.deepEqual(await names('many', { depth: 2 }), ['/home/user/many/a', '/home/user/many/deep', '/home/user/many/deep/b'])

assert.equal(await files.makeDir('fresh/deep'), true)
assert.equal(await files.makeDir('fresh/deep'), false)
const moved = await files.rename('many/a', 'fresh/moved')
assert.equal(moved.path, '/home/user/fresh/moved')
assert.equal(await files.exists('many/a'), false)
await commands.run('ln -s /etc/passwd fresh/link')
const link = (await files.list('fresh')).find((e) => e.name === 'link')
assert.equal(link.symlinkTarget, '/etc/passwd')
await files.remove('fresh')
assert.equal(await files.exists('fresh'), false)

await files.write('/root/secret', 'root only', { user: 'root' })
assert.equal((await files.getInfo('/root/secret', { user: 'root' })).owner, 'root')
assert.equal(await files.read('/root/secret', { user: 'root' }), 'root only')
await assert.rejects(files.read('/root/secret'))
await assert.rejects(files.read('nothing/here'), missing)
await assert.rejects(files.list('nothing/here'), missing)
await assert.rejects(files.getInfo('nothing/here'), missing)
await assert.rejects(files.rename('nothing/here', 'x'), missing)
await assert.rejects(files.read('many'))

// A watch tells what happens below, also in directories that are made later.
const events = []
const watch = await files.watchDir('many', (e) => events.push(`${e.type} ${e.name}`), { recursive: true })
await commands.run('mkdir many/new && sleep 0.3 && echo x > many/new/file && mv many/new/file many/new/other && rm many/new/other')
for (let i = 0; i < 100 && !events.includes('remove new/other'); i++) await new Promise((r) => setTimeout(r, 100))
for (const wanted of ['create new', 'create new/file', 'write new/file', 'rename new/file', 'create new/other', 'remove new/other']) assert.ok(events.includes(wanted), `${wanted} is not in ${events}`)
await watch.stop()
await assert.rejects(files.watchDir('nothing/here', () => {}), missing)
await sandbox.kill()
