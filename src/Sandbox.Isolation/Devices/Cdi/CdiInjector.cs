using System.Text.Json.Nodes;

namespace Sandbox.Isolation.Devices.Cdi;

/// <summary>
/// Adds devices to the configuration of an OCI container. All or nothing: the configuration is changed only when everything that was asked for can be applied. Programs of the host that a file wants run (hooks) are refused unless they are
/// allowed by name: they run as root, outside of the container.
/// </summary>
public sealed class CdiInjector(CdiRegistry registry)
{
    private static readonly string[] HookNames = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

    /// <summary>Paths of programs that may be run as hooks. Empty by default.</summary>
    public IReadOnlySet<string> AllowedHooks { get; init; } = new HashSet<string>(StringComparer.Ordinal);

    /// <summary>
    /// The container has a user namespace of its own, in which no device node can be made: the host's are mounted in their places. Their owner and mode stay the host's, so a description's are not applied.
    /// </summary>
    public bool MountNodes { get; init; }

    /// <summary>Finds type and numbers of a device node of the host; another one in tests.</summary>
    public Func<string, DeviceNodeNumbers?> Stat { get; init; } = DeviceNodeNumbers.Of;

    /// <summary>Adds devices, each with what its file needs once.</summary>
    /// <param name="config">The container's <c>config.json</c>. Changed in place.</param>
    /// <param name="names">Full names.</param>
    /// <exception cref="DeviceException">A device is not there, wants something that is not allowed, or its node is not there. The configuration is as it was.</exception>
    public void Apply(JsonObject config, IEnumerable<string> names)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(names);
        var changed = (JsonObject)config.DeepClone();
        var files = new HashSet<CdiSpec>(ReferenceEqualityComparer.Instance);
        foreach (var name in names.Distinct(StringComparer.Ordinal))
        {
            var (spec, device) = registry.Find(name);
            if (files.Add(spec) && spec.ContainerEdits is { } common)
            {
                Apply(changed, common, name);
            }

            Apply(changed, device.ContainerEdits, name);
        }

        config.Clear();
        foreach (var (key, value) in changed.ToList())
        {
            changed.Remove(key);
            config[key] = value;
        }
    }

    private void Apply(JsonObject config, CdiEdits edits, string name)
    {
        if (edits.IntelRdt is not null || edits.NetDevices is not null)
        {
            throw new DeviceException($"CDI device {name} wants network devices or cache control, which are not handed out here.");
        }

        foreach (var variable in edits.Env)
        {
            if (variable.IndexOf('=', StringComparison.Ordinal) <= 0 || variable.Contains('\0', StringComparison.Ordinal))
            {
                throw new DeviceException($"CDI device {name} has a variable '{variable}' that is none.");
            }

            SetVariable(Array(Object(config, "process"), "env"), variable);
        }

        foreach (var node in edits.DeviceNodes)
        {
            AddNode(config, node, name);
        }

        foreach (var mount in edits.Mounts)
        {
            RequirePath(mount.HostPath, name);
            RequirePath(mount.ContainerPath, name);
            var entry = new JsonObject { ["destination"] = mount.ContainerPath, ["source"] = mount.HostPath, ["options"] = new JsonArray([.. (mount.Options ?? ["rbind", "ro"]).Select(o => JsonValue.Create(o))]) };
            if (mount.Type is not null)
            {
                entry["type"] = mount.Type;
            }

            Array(config, "mounts").Add(entry);
        }

        foreach (var hook in edits.Hooks)
        {
            AddHook(config, hook, name);
        }

        foreach (var group in edits.AdditionalGids.Where(g => g != 0))
        {
            Array(Object(Object(config, "process"), "user"), "additionalGids").Add(group);
        }
    }

    private void AddNode(JsonObject config, CdiNode node, string name)
    {
        RequirePath(node.Path, name);
        var hostPath = node.HostPath ?? node.Path;
        RequirePath(hostPath, name);
        var numbers = node is { Type: not null, Major: not null, Minor: not null }
            ? new DeviceNodeNumbers(node.Type, node.Major.Value, node.Minor.Value)
            : Stat(hostPath) ?? throw new DeviceException($"CDI device {name} needs the device node {hostPath}, which this host does not have; is its driver loaded?");
        var permissions = node.Permissions ?? "rw";
        if (numbers.Type is not ("c" or "b" or "u" or "p") || permissions.Length == 0 || permissions.Any(p => p is not ('r' or 'w' or 'm')))
        {
            throw new DeviceException($"CDI device {name} wants the node {node.Path} of type '{numbers.Type}' with permissions '{permissions}'; a type is one of c, b, u, p, permissions are of r, w, m.");
        }

        var linux = Object(config, "linux");
        var entry = new JsonObject { ["path"] = node.Path, ["type"] = numbers.Type, ["major"] = numbers.Major, ["minor"] = numbers.Minor };
        AddIf(entry, "fileMode", node.FileMode);
        AddIf(entry, "uid", node.Uid);
        AddIf(entry, "gid", node.Gid);
        if (MountNodes)
        {
            Array(config, "mounts").Add(new JsonObject
            {
                ["destination"] = node.Path,
                ["type"] = "bind",
                ["source"] = hostPath,
                ["options"] = new JsonArray("bind", permissions.Contains('w', StringComparison.Ordinal) ? "rw" : "ro", "nosuid", "noexec"),
            });
        }
        else
        {
            Array(linux, "devices").Add(entry);
        }

        if (numbers.Type is "c" or "b" or "u")
        {
            Array(Object(linux, "resources"), "devices").Add(
                new JsonObject { ["allow"] = true, ["type"] = numbers.Type == "u" ? "c" : numbers.Type, ["major"] = numbers.Major, ["minor"] = numbers.Minor, ["access"] = permissions });
        }
    }

    private void AddHook(JsonObject config, CdiHook hook, string name)
    {
        if (!AllowedHooks.Contains(hook.Path))
        {
            throw new DeviceException($"CDI device {name} wants {hook.Path} run on the host as root ({hook.HookName}); that is refused unless an operator allows that program.");
        }

        if (!HookNames.Contains(hook.HookName, StringComparer.Ordinal))
        {
            throw new DeviceException($"CDI device {name} has a hook of the unknown kind '{hook.HookName}'.");
        }

        RequirePath(hook.Path, name);
        var entry = new JsonObject { ["path"] = hook.Path };
        if (hook.Args is not null)
        {
            entry["args"] = new JsonArray([.. hook.Args.Select(a => JsonValue.Create(a))]);
        }

        if (hook.Env is not null)
        {
            entry["env"] = new JsonArray([.. hook.Env.Select(e => JsonValue.Create(e))]);
        }

        AddIf(entry, "timeout", hook.Timeout);
        Array(Object(config, "hooks"), hook.HookName).Add(entry);
    }

    /// <summary>A later device's value takes the place of an earlier one's.</summary>
    private static void SetVariable(JsonArray env, string variable)
    {
        var prefix = variable[..(variable.IndexOf('=', StringComparison.Ordinal) + 1)];
        foreach (var old in env.Where(e => e?.GetValue<string>().StartsWith(prefix, StringComparison.Ordinal) == true).ToList())
        {
            env.Remove(old);
        }

        env.Add(variable);
    }

    private static void RequirePath(string path, string name)
    {
        if (!path.StartsWith('/') || path.Contains('\0', StringComparison.Ordinal) || path.Split('/').Contains(".."))
        {
            throw new DeviceException($"CDI device {name} names '{path}', which is no absolute path without '..'.");
        }
    }

    private static void AddIf<T>(JsonObject entry, string key, T? value)
        where T : struct
    {
        if (value is { } given)
        {
            entry[key] = JsonValue.Create(given);
        }
    }

    private static JsonObject Object(JsonObject parent, string key) => Child<JsonObject>(parent, key);

    private static JsonArray Array(JsonObject parent, string key) => Child<JsonArray>(parent, key);

    private static T Child<T>(JsonObject parent, string key)
        where T : JsonNode
    {
        if (parent[key] is not { } child)
        {
            child = typeof(T) == typeof(JsonArray) ? new JsonArray() : new JsonObject();
            parent[key] = child;
        }

        return child as T ?? throw new DeviceException($"The container's configuration has a '{key}' of another kind than the OCI specification's.");
    }
}
