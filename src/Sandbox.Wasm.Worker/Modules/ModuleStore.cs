using System.Collections.Concurrent;
using System.Security.Cryptography;
using Sandbox.Wasm.Worker.Running;
using Wasmtime;

namespace Sandbox.Wasm.Worker.Modules;

/// <summary>
/// Compiled modules. Those of images are compiled when the image is built, and read from there; those of sessions are compiled once, by a process of their own, into this worker's cache, by the hash
/// of what they are. What a session hands in is always compiled: nothing is ever loaded as machine code that did not come out of our own compiler.
/// </summary>
internal sealed class ModuleStore(string cacheDirectory)
{
    /// <summary>Largest module that a session may run, in bytes.</summary>
    public const int MaxModuleBytes = 32 << 20;

    private const long MaxCacheBytes = 512L << 20;
    private const int MaxLoaded = 64;

    /// <summary>Sessions' modules that are in memory as bytes at once: what many machines run together must not fill this process.</summary>
    private readonly SemaphoreSlim _reading = new(4);

    private readonly ConcurrentDictionary<string, Lazy<Module>> _builtIn = new(StringComparer.Ordinal);
    private readonly Dictionary<string, (Module Module, long LastUse)> _loaded = new(StringComparer.Ordinal);
    private readonly Lock _lock = new();
    private long _uses;

    /// <summary>A module of an image: <c>name.cwasm</c>, or <c>name.wasm</c> compiled again where that was made for another Wasmtime or another processor.</summary>
    /// <exception cref="ModuleException">The image has no such module, or it cannot be compiled.</exception>
    public Module OfImage(string imageDirectory, string name)
    {
        var key = Path.Combine(imageDirectory, name);
        var module = _builtIn.GetOrAdd(key, k => new Lazy<Module>(() => LoadOfImage(k, name)));
        try
        {
            return module.Value;
        }
        catch
        {
            // The next one tries again.
            _builtIn.TryRemove(new(key, module));
            throw;
        }
    }

    /// <summary>A session's own module. Compiles it if need be, which may take seconds.</summary>
    /// <exception cref="ModuleException">It is no module that this sandbox runs; the message says why.</exception>
    public Module OfSession(Func<byte[]> read, string name, CancellationToken cancellationToken)
    {
        _reading.Wait(cancellationToken);
        try
        {
            return OfBytes(read(), name, cancellationToken);
        }
        finally
        {
            _reading.Release();
        }
    }

    private Module OfBytes(byte[] bytes, string name, CancellationToken cancellationToken)
    {
        RequireModule(bytes, name);
        var key = Convert.ToHexStringLower(SHA256.HashData(bytes));
        lock (_lock)
        {
            if (_loaded.TryGetValue(key, out var known))
            {
                _loaded[key] = known with { LastUse = ++_uses };
                return known.Module;
            }
        }

        var path = Path.Combine(cacheDirectory, key + ".cwasm");
        if (!File.Exists(path))
        {
            Trim();
            Compiler.Compile(bytes, path, name, cancellationToken);
        }

        Module module;
        try
        {
            module = Module.DeserializeFile(WasmEngine.Engine, name, path);
        }
        catch (WasmtimeException e)
        {
            File.Delete(path);
            throw new ModuleException($"{name} was compiled and could not be loaded: {e.Message}");
        }

        return Keep(key, module);
    }

    /// <summary>Tells a module from everything else, with a reason for people.</summary>
    private static void RequireModule(ReadOnlySpan<byte> bytes, string name)
    {
        if (bytes.Length > MaxModuleBytes)
        {
            throw new ModuleException($"{name} has {bytes.Length} bytes; a module may have {MaxModuleBytes}.");
        }

        if (bytes.Length < 8 || !bytes[..4].SequenceEqual("\0asm"u8))
        {
            var what = bytes.StartsWith("\u007fELF"u8) ? "It is a native program or a precompiled module; neither is ever loaded." : "";
            throw new ModuleException($"{name} is no WebAssembly module. {what}".TrimEnd());
        }

        if (!bytes[4..8].SequenceEqual("\x01\0\0\0"u8))
        {
            throw new ModuleException(bytes[6] == 1 ? $"{name} is a WebAssembly component; this sandbox runs core modules with WASI preview 1 (wasm32-wasip1)." : $"{name} is of a WebAssembly version that this sandbox does not know.");
        }
    }

    private Module LoadOfImage(string path, string name)
    {
        if (!File.Exists(path + ".cwasm") && !File.Exists(path + ".wasm"))
        {
            throw new ModuleException($"The image {Path.GetDirectoryName(path)} has no {name}.");
        }

        try
        {
            return Module.DeserializeFile(WasmEngine.Engine, name, path + ".cwasm");
        }
        catch (WasmtimeException e)
        {
            // Made by another version, or for a processor that can do more than this one.
            Console.Error.WriteLine($"{path}.cwasm does not fit this host and is compiled again: {e.Message}");
            var bytes = File.ReadAllBytes(path + ".wasm");
            var own = Path.Combine(cacheDirectory, Convert.ToHexStringLower(SHA256.HashData(bytes)) + ".cwasm");
            if (!File.Exists(own))
            {
                Compiler.Compile(bytes, own, name, CancellationToken.None);
            }

            return Module.DeserializeFile(WasmEngine.Engine, name, own);
        }
    }

    private Module Keep(string key, Module module)
    {
        lock (_lock)
        {
            if (_loaded.TryGetValue(key, out var known))
            {
                module.Dispose();
                return known.Module;
            }

            if (_loaded.Count >= MaxLoaded)
            {
                // What runs it keeps its code by itself. It is left to the garbage collector: somebody may be about to instantiate it.
                _loaded.Remove(_loaded.MinBy(l => l.Value.LastUse).Key);
            }

            _loaded[key] = (module, ++_uses);
            return module;
        }
    }

    private void Trim()
    {
        try
        {
            var files = new DirectoryInfo(cacheDirectory).GetFiles("*.cwasm").OrderBy(f => f.LastAccessTimeUtc).ToList();
            var total = files.Sum(f => f.Length);
            foreach (var file in files)
            {
                if (total <= MaxCacheBytes)
                {
                    break;
                }

                total -= file.Length;
                file.Delete();
            }
        }
        catch (IOException)
        {
            // Another one is at it too.
        }
    }
}

/// <summary>Why a module cannot be run. The message is fit for users.</summary>
internal sealed class ModuleException(string message) : Exception(message);
