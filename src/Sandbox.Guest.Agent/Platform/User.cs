using System.Text;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Platform;

/// <summary>A user of the guest, from /etc/passwd and /etc/group as they are at the time of the call.</summary>
internal sealed record User(string Name, uint Uid, uint Gid, string Home, string Shell, uint[] Groups)
{
    private static readonly AccountFile Passwd = new("/etc/passwd");
    private static readonly AccountFile Group = new("/etc/group");

    /// <summary>`rm -rf /` takes /etc with it; root is still root.</summary>
    private static readonly string[][] RootAlone = [["root", "x", "0", "0", "root", "/root", "/bin/bash"]];

    /// <summary>Who may do everything.</summary>
    public static User Root { get; } = new("root", 0, 0, "/root", "/bin/bash", [0]);

    /// <summary>The agent can become another user only as root, or in a container. Its own user never changes.</summary>
    public static bool CanSwitch { get; } = Native.EffectiveUser() == 0 || Container.Entered;

    /// <summary>Finds a user by name; empty names the default user (1000), or whoever runs the agent where it is not root.</summary>
    /// <exception cref="AgentException">No such user.</exception>
    public static User Find(string name)
    {
        var id = (CanSwitch ? 1000 : Native.EffectiveUser()).ToString();
        foreach (var fields in Users())
        {
            if (fields.Length >= 7 && (name.Length == 0 ? fields[2] == id : fields[0] == name)
                && uint.TryParse(fields[2], out var uid) && uint.TryParse(fields[3], out var gid))
            {
                if (Container.Entered && uid == Container.OwnUser)
                {
                    throw new AgentException(ErrorCode.PermissionDenied, $"'{fields[0]}' has the user id of the agent.");
                }

                return new User(fields[0], uid, gid, fields[5].Length == 0 ? "/" : fields[5], fields[6].Length == 0 ? "/bin/sh" : fields[6], GroupsOf(fields[0], gid));
            }
        }

        return name.Length == 0 ? Find("root") : throw new AgentException(ErrorCode.NotFound, $"There is no user '{name}' in the guest.");
    }

    /// <summary>Name of a user id, or its number.</summary>
    public static string NameOf(uint uid) => Lookup(Users(), uid);

    /// <summary>Name of a group id, or its number.</summary>
    public static string GroupNameOf(uint gid) => Lookup(Group.Read(), gid);

    /// <summary>Makes a path absolute: relative ones start at the user's home.</summary>
    public string Resolve(string path)
    {
        if (path.Contains('\0') || Encoding.UTF8.GetByteCount(path) > ProtocolLimits.MaxPathBytes)
        {
            throw new AgentException(ErrorCode.InvalidArgument, "The path holds a NUL or is longer than 4096 bytes.");
        }

        return path switch
        {
            "" or "~" => Home,
            ['/', ..] => path,
            ['~', '/', .. var rest] => Path.Combine(Home, rest.TrimStart('/')),
            _ => Path.Combine(Home, path),
        };
    }

    private static string Lookup(string[][] lines, uint id)
    {
        var text = id.ToString();
        return lines.FirstOrDefault(f => f.Length > 2 && f[2] == text)?[0] ?? text;
    }

    private static uint[] GroupsOf(string name, uint primary)
    {
        var groups = new List<uint> { primary };
        foreach (var fields in Group.Read())
        {
            if (fields.Length >= 4 && fields[3].Length > 0 && fields[3].Split(',').Contains(name) && uint.TryParse(fields[2], out var gid) && gid != primary && groups.Count < 64)
            {
                groups.Add(gid);
            }
        }

        return [.. groups];
    }

    private static string[][] Users() => Passwd.Read() is { Length: > 0 } lines ? lines : RootAlone;
}
