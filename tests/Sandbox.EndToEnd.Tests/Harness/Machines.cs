using System.Diagnostics;
using Xunit;

namespace Sandbox.EndToEnd.Tests.Harness;

/// <summary>The processes that are machines of a server.</summary>
internal static class Machines
{
    /// <summary>Processes below the server that are virtual machine monitors.</summary>
    public static int[] Of(int serverId) =>
        [.. Process.GetProcesses().Where(p => p.ProcessName.StartsWith("qemu-system", StringComparison.Ordinal) && IsBelow(p.Id, serverId)).Select(p => p.Id)];

    private static bool IsBelow(int processId, int ancestor)
    {
        for (var id = processId; id > 1;)
        {
            if (id == ancestor)
            {
                return true;
            }

            var stat = $"/proc/{id}/stat";
            if (!File.Exists(stat))
            {
                return false;
            }

            var text = File.ReadAllText(stat);
            id = int.Parse(text[(text.LastIndexOf(')') + 4)..].Split(' ')[0], System.Globalization.CultureInfo.InvariantCulture);
        }

        return false;
    }

    public static async Task AssertGoneAsync(int[] processes)
    {
        var clock = Stopwatch.StartNew();
        while (processes.Any(IsAlive))
        {
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(30), "A microVM outlived its host process.");
            await Task.Delay(50);
        }
    }

    private static bool IsAlive(int id)
    {
        var stat = $"/proc/{id}/stat";
        try
        {
            var text = File.ReadAllText(stat);
            return text[text.LastIndexOf(')') + 2] is not ('Z' or 'X');
        }
        catch (IOException)
        {
            return false;
        }
    }
}
