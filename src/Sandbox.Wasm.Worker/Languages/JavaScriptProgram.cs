using System.Text;
using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Running;
using Sandbox.Wasm.Worker.Volume;
using Wasmtime;

namespace Sandbox.Wasm.Worker.Languages;

/// <summary><c>js FILE ARGS…</c>, <c>js -e CODE</c>, or <c>js</c> with a script on standard input.</summary>
internal sealed class JavaScriptProgram(IReadOnlyList<string> arguments) : GuestProgram
{
    public override GuestEnd Run(Surroundings around)
    {
        GuestEnd? end = null;
        around.Run.AtTick = () => around.Output.Flush(around.Run);
        around.Run.Do(() =>
        {
            JavaScriptGuest? guest = null;
            try
            {
                var (source, name, rest) = Script(around);
                var module = around.Machine.Modules.OfImage(around.Machine.ImageDirectory, JavaScriptGuest.ModuleName);
                guest = new JavaScriptGuest(module, around.Run, around.Machine.Allowance.MemoryBytes, around.Input) { Output = (fd, data) => around.Output.Write(around.Run, fd, data) };
                guest.Adopt(around.Machine, around.Environment, around.Directory, [arguments[0], name, .. rest]);
                end = new GuestEnd(RunScript(guest, around, source, name), 0, null);
            }
            catch (Exception e) when (e is WasmtimeException or GuestEndedException)
            {
                end = guest is null && around.Run.Killed == 0 && e is WasmtimeException ? new GuestEnd(1, 0, e.Message.Split('\n')[0]) : GuestEnd.Of(around.Run, guest!.Process, e);
            }
            finally
            {
                around.Run.AtTick = null;
                around.Run.Memory = () => 0;
                guest?.Dispose();
            }
        });
        around.Output.Finish(around.Machine.Closed);
        return end!;
    }

    private static int RunScript(JavaScriptGuest guest, Surroundings around, string source, string name)
    {
        var (value, failed) = guest.Evaluate(source, name);
        var error = failed ? value : guest.Drain();
        if (error is { } thrown)
        {
            around.Output.Write(around.Run, OutputFd.Stderr, Encoding.UTF8.GetBytes(guest.Describe(thrown).Traceback.TrimEnd() + "\n"));
            return 1;
        }

        return guest.ExitCode();
    }

    private (string Source, string Name, IEnumerable<string> Arguments) Script(Surroundings around)
    {
        switch (arguments.Count > 1 ? arguments[1] : "-")
        {
            case "-e" or "--eval":
                return (arguments.Count > 2 ? arguments[2] : "", "<eval>", arguments.Skip(3));
            case "-":
                var all = new MemoryStream();
                var buffer = new byte[16 * 1024];
                for (int n; (n = around.Input.Read(around.Run, buffer)) > 0;)
                {
                    all.Write(buffer, 0, n);
                    RequireSize(all.Length);
                }

                return (Encoding.UTF8.GetString(all.ToArray()), "<stdin>", arguments.Skip(2));
            case var file:
                var volume = around.Machine.Volume;
                var path = Machine.WasmMachine.PathFrom(around.Directory, file);
                Node node;
                try
                {
                    node = volume.Find(volume.Root, path);
                }
                catch (VolumeException e)
                {
                    throw WorkerException.Of(e, path);
                }

                RequireSize(node.Size);
                var bytes = new byte[node.Size];
                return (Encoding.UTF8.GetString(bytes, 0, volume.Read(node, bytes, 0)), path, arguments.Skip(2));
        }
    }

    private static void RequireSize(long bytes)
    {
        const long Most = 4 << 20;
        if (bytes > Most)
        {
            throw new WorkerException(ErrorCode.InvalidArgument, $"A script may have {Most} bytes.");
        }
    }
}
