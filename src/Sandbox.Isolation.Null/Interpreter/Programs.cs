using System.Globalization;
using System.Text.RegularExpressions;
using Sandbox.Guest.Protocol;

namespace Sandbox.Isolation.Null.Interpreter;

/// <summary>
/// The programs that there are. Each is a function of its step: it says one thing, or ends, or waits by doing neither. <c>docs/null-backend.md</c> lists them for those who write tests.
/// </summary>
internal static partial class Programs
{
    private static readonly HashSet<string> Names = new(StringComparer.Ordinal)
    {
        "echo", "env", "cat", "hold", "stubborn", "exit", "flood", "count", "tick", "set", "get", "panic",
    };

    /// <summary>Program and arguments of a request: a shell's line is cut at its spaces, code is one word or a program.</summary>
    public static string[] Parse(StartExecution request) => request.WhatCase == StartExecution.WhatOneofCase.Code
        ? Split(request.Code.Source)
        : request.Command.Argv is [var shell, .., "-c", var line] && Path.GetFileName(shell) is "sh" or "bash" ? Split(line) : [.. request.Command.Argv];

    public static bool Exists(string[] program) => program is [var name, ..] && Names.Contains(name);

    /// <summary>Runs one step: what it says goes to <paramref name="process"/>; saying nothing is waiting.</summary>
    public static void Step(NullExecution process, NullGuest machine)
    {
        if (process.Code is { } code && machine.FindContext(process.ContextId) is { } context && RunCode(process, code.Trim(), context))
        {
            return;
        }

        var arguments = process.Program.AsSpan(Math.Min(1, process.Program.Length));
        switch (process.Program is [var name, ..] ? name : "")
        {
            case "echo":
                process.Print(string.Join(' ', arguments.ToArray()) + "\n");
                process.Exit(0);
                break;
            case "env":
                Tell(process, process.Env.GetValueOrDefault(Text(arguments, 0)), newLine: "");
                break;
            case "cat":
                Cat(process);
                break;
            case "hold" or "stubborn":
                SayOnce(process, "holding\n");
                break;
            case "exit":
                process.Exit((int)Number(arguments, 0) & 255);
                break;
            case "flood":
                Flood(process, Number(arguments, 0));
                break;
            case "count":
                Count(process, Number(arguments, 0));
                break;
            case "tick":
                Tick(process, Number(arguments, 0), Number(arguments, 1));
                break;
            case "set":
                machine.Variables[Text(arguments, 0)] = Text(arguments, 1);
                process.Exit(0);
                break;
            case "get":
                Tell(process, machine.Variables.GetValueOrDefault(Text(arguments, 0)), newLine: "\n");
                break;
            case "panic":
                machine.Panic(arguments.Length > 0 ? string.Join(' ', arguments.ToArray()) : "its kernel panicked");
                break;
            default:
                process.Fail("SyntaxError", "no such program");
                break;
        }
    }

    private static bool RunCode(NullExecution process, string code, NullContext context)
    {
        if (Assignment().Match(code) is { Success: true } assignment)
        {
            context.Variables[assignment.Groups["name"].Value] = assignment.Groups["value"].Value.Trim();
            context.ExecutionCount++;
            process.Exit(0);
            return true;
        }

        if (!Name().IsMatch(code))
        {
            return false;
        }

        if (context.Variables.TryGetValue(code, out var value))
        {
            process.Show(value, ++context.ExecutionCount);
            process.Exit(0);
        }
        else
        {
            process.Fail("NameError", $"name '{code}' is not defined");
        }

        return true;
    }

    private static void Tell(NullExecution process, string? value, string newLine)
    {
        if (value is null)
        {
            process.Fail("KeyError", "not set");
        }
        else
        {
            process.Print(value + newLine);
            process.Exit(0);
        }
    }

    private static void Cat(NullExecution process)
    {
        switch (process.ReadStdin())
        {
            case { Length: > 0 } data:
                process.Print(data);
                break;
            case not null:
                process.Exit(0);
                break;
        }
    }

    private static void SayOnce(NullExecution process, string text)
    {
        if (process.Step == 0)
        {
            process.Step = 1;
            process.Print(text);
        }
    }

    private static void Flood(NullExecution process, long bytes)
    {
        if (process.Step >= bytes)
        {
            process.Exit(0);
            return;
        }

        var piece = (int)Math.Min(1000, bytes - process.Step);
        process.Step += piece;
        process.Print(new string('x', piece));
    }

    private static void Count(NullExecution process, long lines)
    {
        if (process.Step >= lines)
        {
            process.Exit(0);
            return;
        }

        process.Print(string.Create(CultureInfo.InvariantCulture, $"{process.Step}\n"));
        process.Step++;
    }

    private static void Tick(NullExecution process, long lines, long milliseconds)
    {
        if (process.Step >= lines)
        {
            process.Exit(0);
        }
        else if (process.Slept(milliseconds))
        {
            process.Step++;
            process.Print(string.Create(CultureInfo.InvariantCulture, $"{process.Step}\n"));
        }
    }

    private static string Text(Span<string> arguments, int index) => index < arguments.Length ? arguments[index] : "";

    private static long Number(Span<string> arguments, int index) =>
        long.TryParse(Text(arguments, index), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? Math.Min(number, uint.MaxValue - 1) : 0;

    private static string[] Split(string line) => line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);

    [GeneratedRegex(@"\A(?<name>[A-Za-z_]\w*)\s*=(?<value>[^\n]*)\z")]
    private static partial Regex Assignment();

    [GeneratedRegex(@"\A[A-Za-z_]\w*\z")]
    private static partial Regex Name();
}
