using System.Globalization;

namespace Sandbox.Bench.Machines;

/// <summary>How a raw machine comes to life.</summary>
internal enum RawStart
{
    /// <summary>Its kernel boots, into memory of its own.</summary>
    Boot,

    /// <summary>It maps the golden memory and takes the golden state of its devices.</summary>
    Clone,

    /// <summary>It takes all of its state from a file, into memory of its own.</summary>
    Restore,
}

/// <summary>The backend's arguments for QEMU, read from a clone, made into those of a raw machine.</summary>
internal static class RawArguments
{
    /// <summary>Where a raw machine finds the state it starts from.</summary>
    public const string StateFd = "fd:8";

    /// <summary>
    /// All that makes the machine stays as it is. What says how it starts is the clone's own and goes: <c>-incoming</c>, and <c>-S</c>, with which a machine that boots would wait for a <c>cont</c> for ever.
    /// </summary>
    /// <param name="donor">The clone's arguments.</param>
    /// <param name="directory">The raw machine's, for its sockets.</param>
    /// <param name="memoryMiB">Its memory.</param>
    /// <param name="start">How it starts.</param>
    public static IReadOnlyList<string> Of(IReadOnlyList<string> donor, string directory, int memoryMiB, RawStart start)
    {
        var arguments = new List<string>();
        for (var i = 0; i < donor.Count; i++)
        {
            switch (donor[i])
            {
                case "-S":
                    break;
                case "-incoming":
                    i++;
                    break;
                case "-name":
                    i++;
                    arguments.AddRange(["-name", "raw"]);
                    break;
                case var a when a.Contains("id=qmp,path=", StringComparison.Ordinal):
                    arguments.Add($"socket,id=qmp,path={directory}/qmp,server=on,wait=off");
                    break;
                case var a when a.Contains("id=agent,path=", StringComparison.Ordinal):
                    arguments.Add($"socket,id=agent,path={directory}/agent,server=on,wait=off");
                    break;
                case var a when start != RawStart.Clone && a.StartsWith("memory-backend-", StringComparison.Ordinal):
                    arguments.Add(string.Create(CultureInfo.InvariantCulture, $"memory-backend-memfd,id=ram,size={memoryMiB}M,share=on"));
                    break;
                case var a:
                    arguments.Add(a);
                    break;
            }
        }

        return start switch
        {
            // A clone must be told first that its memory is not in the stream; both wait for the cont that follows.
            RawStart.Clone => [.. arguments, "-S", "-incoming", "defer"],
            RawStart.Restore => [.. arguments, "-S", "-incoming", StateFd],
            _ => arguments,
        };
    }
}
