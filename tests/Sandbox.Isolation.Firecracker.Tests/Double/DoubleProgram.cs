namespace Sandbox.Isolation.Firecracker.Tests.Double;

/// <summary>The double as a program: what stands in for <c>firecracker</c> and for <c>jailer</c>.</summary>
internal static class DoubleProgram
{
    /// <summary>What it says it is.</summary>
    public const string Version = "1.17.0";

    public static async Task<int> RunAsync(string role, string folder, string[] args)
    {
        var setting = new DoubleSetting(folder);
        try
        {
            if (args is ["--version"])
            {
                Console.WriteLine(setting.Has("old") ? "Firecracker v1.7.0" : setting.Has("strange") ? "Hello" : $"Firecracker v{Version}\n\nSupported snapshot data format versions: v8.0.0");
                return 0;
            }

            return role == "jailer" ? await JailerDouble.RunAsync(setting, args) : await RunFirecrackerAsync(setting, args, userfault: Posix.OpenUserfault());
        }
        catch (DoubleException e)
        {
            Console.Error.WriteLine(e.Message);
            return 153;
        }
    }

    /// <summary>Takes exactly what the driver has reason to give.</summary>
    public static async Task<int> RunFirecrackerAsync(DoubleSetting setting, string[] args, int userfault)
    {
        var arguments = Arguments.Parse(args, once: ["--id", "--api-sock", "--start-time-us", "--start-time-cpu-us"], many: []);
        var id = arguments.One("--id");
        setting.Log(id, new { Program = "firecracker", Arguments = args, User = Posix.UserId(), Directory = Environment.CurrentDirectory });
        var machine = new MachineDouble(setting, id, userfault);
        await new ApiServer(arguments.One("--api-sock"), machine.HandleAsync).RunAsync(CancellationToken.None);
        return 0;
    }
}
