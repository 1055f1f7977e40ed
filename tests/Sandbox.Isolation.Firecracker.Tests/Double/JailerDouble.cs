using System.Text.RegularExpressions;

namespace Sandbox.Isolation.Firecracker.Tests.Double;

/// <summary>
/// A jailer that does all but change its root (a .NET program could not run in it): checks its arguments, copies the program, joins the cgroup, gives the root away, goes there, changes its user, and becomes Firecracker.
/// </summary>
internal static partial class JailerDouble
{
    public static async Task<int> RunAsync(DoubleSetting setting, string[] args)
    {
        var end = Array.IndexOf(args, "--");
        var arguments = Arguments.Parse(
            end < 0 ? args : args[..end],
            once: ["--id", "--exec-file", "--uid", "--gid", "--chroot-base-dir", "--netns", "--cgroup-version", "--parent-cgroup"],
            many: ["--cgroup", "--resource-limit"]);
        var id = arguments.One("--id");
        if (!Id().IsMatch(id))
        {
            throw new DoubleException($"Invalid instance ID: {id}");
        }

        var exec = arguments.One("--exec-file");
        if (!Path.IsPathFullyQualified(exec) || !File.Exists(exec) || !Path.GetFileName(exec).Contains("firecracker", StringComparison.Ordinal))
        {
            throw new DoubleException($"The exec file {exec} must be a file, and its name must contain 'firecracker'");
        }

        var root = Path.Combine(arguments.One("--chroot-base-dir"), Path.GetFileName(exec), id, "root");
        Directory.CreateDirectory(root);
        File.Copy(exec, Path.Combine(root, Path.GetFileName(exec)));
        if (arguments.Maybe("--netns") is { } netns && !File.Exists(netns))
        {
            throw new DoubleException($"there is no network namespace {netns}");
        }

        foreach (var limit in arguments.Many("--resource-limit"))
        {
            if (limit.Split('=') is not ["fsize" or "no-file", var value] || !ulong.TryParse(value, out _))
            {
                throw new DoubleException($"Invalid resource limit {limit}");
            }
        }

        Join(arguments, id);
        setting.Log(id, new { Program = "jailer", Arguments = args, NetworkNamespace = new FileInfo("/proc/self/ns/net").LinkTarget, Environment.ProcessId });
        var (uid, gid) = (uint.Parse(arguments.One("--uid")), uint.Parse(arguments.One("--gid")));
        if (uid == 0 || gid == 0)
        {
            throw new DoubleException("as root it would be no jail");
        }

        // What the real one gives as a device node of the jail.
        var userfault = Posix.OpenUserfault();
        foreach (var own in (string[])["run", "dev"])
        {
            Directory.CreateDirectory(Path.Combine(root, own));
        }

        if (Posix.ChangeDirectory(root) != 0)
        {
            throw new DoubleException($"cannot go to {root}");
        }

        Posix.BecomeUser(uid, gid);
        return await DoubleProgram.RunFirecrackerAsync(setting, ["--id", id, "--start-time-us", "1", "--start-time-cpu-us", "1", .. end < 0 ? [] : args[(end + 1)..]], userfault);
    }

    private static void Join(Arguments arguments, string id)
    {
        var version = arguments.Maybe("--cgroup-version");
        var settings = arguments.Many("--cgroup");
        if (settings.Count > 0 && version is not ("1" or "2"))
        {
            throw new DoubleException("the cgroup version must be 1 or 2");
        }

        foreach (var setting in settings)
        {
            if (setting.Split('=') is not [var file, { Length: > 0 } value] || file.Contains('/', StringComparison.Ordinal))
            {
                throw new DoubleException($"Invalid cgroup setting {setting}");
            }

            var controller = version == "2" ? "" : file.Split('.')[0];
            var group = Path.Combine("/sys/fs/cgroup", controller, arguments.One("--parent-cgroup"), id);
            Directory.CreateDirectory(group);
            File.WriteAllText(Path.Combine(group, file), value);
        }
    }

    [GeneratedRegex(@"\A[a-zA-Z0-9-]{1,64}\z")]
    private static partial Regex Id();
}
