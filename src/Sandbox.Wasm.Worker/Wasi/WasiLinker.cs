using Sandbox.Wasm.Worker.Running;
using Sandbox.Wasm.Worker.Volume;
using Wasmtime;

namespace Sandbox.Wasm.Worker.Wasi;

/// <summary>Offers the calls of WASI preview 1 to modules. One linker serves all: the world of each is its store's data.</summary>
internal static class WasiLinker
{
    public const string Module = "wasi_snapshot_preview1";

    private static readonly Lazy<Linker> Shared = new(Make);

    public static Linker Instance => Shared.Value;

    /// <summary>Names of the calls.</summary>
    public static HashSet<string> Names { get; } = new(StringComparer.Ordinal);

    /// <summary>Whether a store's data is the world itself, or knows it.</summary>
    public static WasiProcess ProcessOf(object? data) => data as WasiProcess ?? ((IHasProcess)data!).Process;

    public static void Define(Linker linker)
    {
        Def(linker, "args_get", (c, a, b) => Do(c, p => p.Arguments(a, b)));
        Def(linker, "args_sizes_get", (c, a, b) => Do(c, p => p.ArgumentSizes(a, b)));
        Def(linker, "environ_get", (c, a, b) => Do(c, p => p.Environment(a, b)));
        Def(linker, "environ_sizes_get", (c, a, b) => Do(c, p => p.EnvironmentSizes(a, b)));
        Def(linker, "clock_res_get", (c, a, b) => Do(c, p => p.ClockResolution(a, b)));
        Def(linker, "fd_prestat_get", (c, a, b) => Do(c, p => p.PreopenedStatus(a, b)));
        Def(linker, "fd_fdstat_get", (c, a, b) => Do(c, p => p.DescriptorStatus(a, b)));
        Def(linker, "fd_fdstat_set_flags", (c, a, b) => Do(c, p => p.SetFlags(a, b)));
        Def(linker, "fd_filestat_get", (c, a, b) => Do(c, p => p.FileStatus(a, b)));
        Def(linker, "fd_renumber", (c, a, b) => Do(c, p => p.Renumber(a, b)));
        Def(linker, "fd_tell", (c, a, b) => Do(c, p => p.Tell(a, b)));
        Def(linker, "random_get", (c, a, b) => Do(c, p => p.Random(a, b)));
        Def(linker, "sock_shutdown", (c, a, b) => (int)WasiErrno.NotSocket);
        One(linker, "fd_close", (c, a) => Do(c, p => p.Close(a)));
        One(linker, "fd_sync", (c, a) => Do(c, p => p.Sync(a)));
        One(linker, "fd_datasync", (c, a) => Do(c, p => p.Sync(a)));
        One(linker, "proc_raise", (c, a) => (int)WasiErrno.NoSystemCall);
        Define(linker, "sched_yield", n => linker.DefineFunction(Module, n, (CallerFunc<int>)(c => Do(c, p => p.Yield()))));
        Define(linker, "proc_exit", n => linker.DefineFunction(Module, n, (CallerAction<int>)((c, code) => ProcessOf(c.GetData()).Exit(code))));
        Define(linker, "clock_time_get", n => linker.DefineFunction(Module, n, (CallerFunc<int, long, int, int>)((c, clock, _, result) => Do(c, p => p.ClockTime(clock, result)))));
        DefineFiles(linker);
        DefinePaths(linker);
    }

    private static void DefineFiles(Linker linker)
    {
        Define(linker, "fd_prestat_dir_name", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, int>)((c, fd, a, l) => Do(c, p => p.PreopenedName(fd, a, l)))));
        Define(linker, "fd_read", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, int, int>)((c, fd, v, k, r) => Do(c, p => p.Read(fd, v, k, r)))));
        Define(linker, "fd_write", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, int, int>)((c, fd, v, k, r) => Do(c, p => p.Write(fd, v, k, r)))));
        Define(linker, "fd_pread", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, long, int, int>)((c, fd, v, k, o, r) => Do(c, p => p.ReadAt(fd, v, k, o, r)))));
        Define(linker, "fd_pwrite", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, long, int, int>)((c, fd, v, k, o, r) => Do(c, p => p.WriteAt(fd, v, k, o, r)))));
        Define(linker, "fd_seek", n => linker.DefineFunction(Module, n, (CallerFunc<int, long, int, int, int>)((c, fd, o, w, r) => Do(c, p => p.Seek(fd, o, w, r)))));
        Define(linker, "fd_readdir", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, long, int, int>)((c, fd, b, l, k, r) => Do(c, p => p.ReadDirectory(fd, b, l, k, r)))));
        Define(linker, "fd_advise", n => linker.DefineFunction(Module, n, (CallerFunc<int, long, long, int, int>)((c, _, _, _, _) => 0)));
        Define(linker, "fd_allocate", n => linker.DefineFunction(Module, n, (CallerFunc<int, long, long, int>)((c, fd, o, l) => Do(c, p => p.Allocate(fd, o, l)))));
        Define(linker, "fd_filestat_set_size", n => linker.DefineFunction(Module, n, (CallerFunc<int, long, int>)((c, fd, s) => Do(c, p => p.Resize(fd, s)))));
        Define(linker, "fd_filestat_set_times", n => linker.DefineFunction(Module, n, (CallerFunc<int, long, long, int, int>)((c, fd, a, m, f) => Do(c, p => p.SetTimes(fd, a, m, f)))));
        Define(linker, "fd_fdstat_set_rights", n => linker.DefineFunction(Module, n, (CallerFunc<int, long, long, int>)((c, _, _, _) => 0)));
        Define(linker, "poll_oneoff", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, int, int>)((c, s, e, k, r) => Do(c, p => p.Poll(s, e, k, r)))));
        Define(linker, "sock_accept", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, int>)((c, _, _, _) => (int)WasiErrno.NotSocket)));
        Define(linker, "sock_recv", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, int, int, int, int>)((c, _, _, _, _, _, _) => (int)WasiErrno.NotSocket)));
        Define(linker, "sock_send", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, int, int, int>)((c, _, _, _, _, _) => (int)WasiErrno.NotSocket)));
    }

    private static void DefinePaths(Linker linker)
    {
        Define(linker, "path_create_directory", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, int>)((c, fd, a, l) => Do(c, p => p.MakeDirectory(fd, a, l)))));
        Define(linker, "path_remove_directory", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, int>)((c, fd, a, l) => Do(c, p => p.RemoveDirectory(fd, a, l)))));
        Define(linker, "path_unlink_file", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, int>)((c, fd, a, l) => Do(c, p => p.Unlink(fd, a, l)))));
        Define(linker, "path_filestat_get", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, int, int, int>)((c, fd, f, a, l, r) => Do(c, p => p.PathStatus(fd, f, a, l, r)))));
        Define(linker, "path_filestat_set_times", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, int, long, long, int, int>)((c, fd, f, a, l, at, mt, fl) => Do(c, p => p.SetPathTimes(fd, f, a, l, at, mt, fl)))));
        Define(linker, "path_link", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, int, int, int, int, int>)((c, of, f, oa, ol, nf, na, nl) => Do(c, p => p.LinkPath(of, f, oa, ol, nf, na, nl)))));
        Define(linker, "path_open", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, int, int, long, long, int, int, int>)((c, fd, lookup, a, l, o, r, _, f, result) => Do(c, p => p.OpenPath(fd, lookup, a, l, o, r, f, result)))));
        Define(linker, "path_readlink", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, int, int, int, int>)((c, fd, a, l, b, s, r) => Do(c, p => p.ReadLink(fd, a, l, b, s, r)))));
        Define(linker, "path_rename", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, int, int, int, int>)((c, of, oa, ol, nf, na, nl) => Do(c, p => p.Rename(of, oa, ol, nf, na, nl)))));
        Define(linker, "path_symlink", n => linker.DefineFunction(Module, n, (CallerFunc<int, int, int, int, int, int>)((c, oa, ol, fd, na, nl) => Do(c, p => p.SymbolicLink(oa, ol, fd, na, nl)))));
    }

    private static Linker Make()
    {
        var linker = new Linker(WasmEngine.Engine);
        Define(linker);
        return linker;
    }

    private static void Define(Linker linker, string name, Action<string> define)
    {
        define(name);
        lock (Names)
        {
            Names.Add(name);
        }
    }

    private static void One(Linker linker, string name, CallerFunc<int, int> call) => Define(linker, name, n => linker.DefineFunction(Module, n, call));

    private static void Def(Linker linker, string name, CallerFunc<int, int, int> call) => Define(linker, name, n => linker.DefineFunction(Module, n, call));

    private static int Do(Caller caller, Func<WasiProcess, int> call)
    {
        var process = ProcessOf(caller.GetData());
        process.Memory ??= caller.GetMemory("memory");
        process.Run.ThrowIfKilled();
        try
        {
            return call(process);
        }
        catch (WasiException e)
        {
            return (int)e.Errno;
        }
        catch (VolumeException e)
        {
            return (int)WasiException.Of(e.Errno);
        }
    }
}

/// <summary>A store's data that is more than a world.</summary>
internal interface IHasProcess
{
    WasiProcess Process { get; }
}
