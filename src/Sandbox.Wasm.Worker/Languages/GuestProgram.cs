using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Executions;
using Sandbox.Wasm.Worker.Machine;
using Sandbox.Wasm.Worker.Modules;
using Sandbox.Wasm.Worker.Running;
using Sandbox.Wasm.Worker.Volume;
using Sandbox.Wasm.Worker.Wasi;
using Wasmtime;

namespace Sandbox.Wasm.Worker.Languages;

/// <summary>What a command names: a module of the session, Python, or JavaScript.</summary>
internal abstract class GuestProgram
{
    /// <summary>Where a program runs.</summary>
    internal sealed record Surroundings(WasmMachine Machine, Run Run, Dictionary<string, string> Environment, string Directory, IGuestInput Input, ExecutionOutput Output);

    /// <summary>Finds it.</summary>
    /// <exception cref="WorkerException">There is nothing of that name that could run here.</exception>
    public static GuestProgram Find(WasmMachine machine, IReadOnlyList<string> arguments, string directory)
    {
        var name = arguments[0];
        var last = name[(name.LastIndexOf('/') + 1)..];
        if (!name.EndsWith(".wasm", StringComparison.Ordinal))
        {
            switch (last)
            {
                case "python" or "python3":
                    return new PythonProgram(arguments);
                case "js" or "qjs":
                    return new JavaScriptProgram(arguments);
            }
        }

        var path = WasmMachine.PathFrom(directory, name);
        Node? node = null;
        if (name.Contains('/') || name.EndsWith(".wasm", StringComparison.Ordinal))
        {
            try
            {
                node = machine.Volume.Find(machine.Volume.Root, path);
            }
            catch (VolumeException e) when (e.Errno is Errno.NoEntry or Errno.NotDirectory)
            {
                // Said below.
            }
            catch (VolumeException e)
            {
                throw WorkerException.Of(e, path);
            }
        }

        const string What = "This session is WebAssembly: it runs .wasm modules, python and js; there is no shell and there are no other programs.";
        return node switch
        {
            { Kind: NodeKind.File } when node.Size <= ModuleStore.MaxModuleBytes => new SessionModule(arguments, node),
            { Kind: NodeKind.File } => throw new WorkerException(ErrorCode.InvalidArgument, $"{path} has {node.Size} bytes; a module may have {ModuleStore.MaxModuleBytes}."),
            not null => throw new WorkerException(ErrorCode.PermissionDenied, $"{path} is a directory.", 13),
            null => throw new WorkerException(ErrorCode.NotFound, $"There is no program '{(name.Length > 200 ? name[..200] : name)}'. {What}", 2),
        };
    }

    /// <summary>Runs it to its end, on the guest's own thread.</summary>
    public abstract GuestEnd Run(Surroundings around);

    /// <summary>Runs a module's <c>_start</c>.</summary>
    protected static GuestEnd RunStart(Module module, Surroundings around, WasiProcess process)
    {
        GuestEnd? end = null;
        around.Run.AtTick = () => around.Output.Flush(around.Run);
        around.Run.Do(() =>
        {
            Exception? failure = null;
            GuestInstance? guest = null;
            try
            {
                guest = new GuestInstance(module, WasiLinker.Instance, process, around.Run, around.Machine.Allowance.MemoryBytes);
                var start = guest.Instance.GetAction("_start") ?? throw new ModuleException("it exports no function _start, so it is no program");
                start();
            }
            catch (Exception e) when (e is WasmtimeException or GuestEndedException)
            {
                failure = e;
            }
            finally
            {
                around.Run.AtTick = null;
                around.Run.Memory = () => 0;
                guest?.Dispose();
            }

            end = GuestEnd.Of(around.Run, process, failure);
        });
        around.Output.Finish(around.Machine.Closed);
        return end!;
    }

    /// <summary>Gives a program its standard streams, and the directories of the session.</summary>
    protected static WasiProcess Equip(Surroundings around, IEnumerable<string> arguments)
    {
        var process = new WasiProcess(around.Run, arguments, around.Environment);
        process.Add(new InputDescriptor(around.Input));
        process.Add(new OutputDescriptor(around.Output.On(OutputFd.Stdout)));
        process.Add(new OutputDescriptor(around.Output.On(OutputFd.Stderr)));
        around.Machine.Preopen(process, around.Directory);
        return process;
    }

    private sealed class SessionModule(IReadOnlyList<string> arguments, Node node) : GuestProgram
    {
        public override GuestEnd Run(Surroundings around)
        {
            var module = Compiled(around);
            WasiImports.Require(module, arguments[0]);
            using var process = Equip(around, arguments);
            return RunStart(module, around, process);
        }

        private Module Compiled(Surroundings around)
        {
            Module? module = null;
            Exception? failure = null;
            around.Run.Do(() => around.Run.Wait(token =>
            {
                around.Machine.Loading.Wait(token);
                try
                {
                    module = around.Machine.Modules.OfSession(() => Content(around.Machine.Volume), arguments[0], token);
                }
                catch (Exception e) when (e is ModuleException or VolumeException)
                {
                    failure = e;
                }
                finally
                {
                    around.Machine.Loading.Release();
                }
            }));
            return module ?? throw failure ?? new OperationCanceledException();
        }

        private byte[] Content(SessionVolume volume)
        {
            var bytes = new byte[Math.Min(node.Size, ModuleStore.MaxModuleBytes + 1)];
            return bytes[..volume.Read(node, bytes, 0)];
        }
    }
}
