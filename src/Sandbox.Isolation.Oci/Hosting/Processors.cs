using System.Globalization;

namespace Sandbox.Isolation.Oci.Hosting;

/// <summary>
/// Which of the host's processors a container runs on: as many as it was promised, so that programs that ask how many there are do not start a thread for each of the host's. They are dealt out in turn.
/// </summary>
internal sealed class Processors
{
    private readonly int[] _all = Parse();
    private int _next = -1;

    /// <summary>The next so many, as a list that the kernel reads; empty where that is all of them, or which there are is not known.</summary>
    public string Choose(int count)
    {
        if (count >= _all.Length)
        {
            return "";
        }

        var first = (uint)Interlocked.Add(ref _next, count) - (uint)count + 1;
        return string.Join(',', Enumerable.Range(0, count).Select(i => _all[(first + i) % _all.Length].ToString(CultureInfo.InvariantCulture)));
    }

    /// <summary>Those that this program itself may use.</summary>
    private static int[] Parse()
    {
        const string Name = "Cpus_allowed_list:";
        var list = File.ReadLines("/proc/self/status").FirstOrDefault(l => l.StartsWith(Name, StringComparison.Ordinal));
        return list is null ? [] : [.. list[Name.Length..].Trim().Split(',').SelectMany(r =>
        {
            var ends = r.Split('-').Select(n => int.Parse(n, CultureInfo.InvariantCulture)).ToArray();
            return Enumerable.Range(ends[0], ends[^1] - ends[0] + 1);
        })];
    }
}
